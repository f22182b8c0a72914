package filter

// numbers are those of calls that a profile may deny, by architecture (asm/unistd.h); -1 where it has no such call.
// x32 is amd64's with a bit set, but for the few in x32Own.
var numbers = map[string]struct{ amd64, i386, arm64 int }{
	"_sysctl":                 {156, 149, -1},
	"acct":                    {163, 51, 89},
	"add_key":                 {248, 286, 217},
	"adjtimex":                {159, 124, 171},
	"bdflush":                 {-1, 134, -1},
	"bpf":                     {321, 357, 280},
	"chroot":                  {161, 61, 51},
	"clock_adjtime":           {305, 343, 266},
	"clock_adjtime64":         {-1, 405, -1},
	"clock_settime":           {227, 264, 112},
	"clock_settime64":         {-1, 404, -1},
	"clone":                   {56, 120, 220},
	"clone3":                  {435, 435, 435},
	"create_module":           {174, 127, -1},
	"delete_module":           {176, 129, 106},
	"fanotify_init":           {300, 338, 262},
	"fanotify_mark":           {301, 339, 263},
	"file_setattr":            {469, 469, 469},
	"finit_module":            {313, 350, 273},
	"fsconfig":                {431, 431, 431},
	"fsmount":                 {432, 432, 432},
	"fsopen":                  {430, 430, 430},
	"fspick":                  {433, 433, 433},
	"get_kernel_syms":         {177, 130, -1},
	"init_module":             {175, 128, 105},
	"io_uring_enter":          {426, 426, 426},
	"io_uring_register":       {427, 427, 427},
	"io_uring_setup":          {425, 425, 425},
	"ioctl":                   {16, 54, 29},
	"ioperm":                  {173, 101, -1},
	"iopl":                    {172, 110, -1},
	"kcmp":                    {312, 349, 272},
	"kexec_file_load":         {320, -1, 294},
	"kexec_load":              {246, 283, 104},
	"keyctl":                  {250, 288, 219},
	"listmount":               {458, 458, 458},
	"lookup_dcookie":          {212, 253, 18},
	"lsm_set_self_attr":       {460, 460, 460},
	"mbind":                   {237, 274, 235},
	"memfd_secret":            {447, 447, 447},
	"migrate_pages":           {256, 294, 238},
	"modify_ldt":              {154, 123, -1},
	"mount":                   {165, 21, 40},
	"mount_setattr":           {442, 442, 442},
	"move_mount":              {429, 429, 429},
	"move_pages":              {279, 317, 239},
	"name_to_handle_at":       {303, 341, 264},
	"nfsservctl":              {180, 169, 42},
	"open_by_handle_at":       {304, 342, 265},
	"open_tree":               {428, 428, 428},
	"open_tree_attr":          {467, 467, 467},
	"pciconfig_iobase":        {-1, -1, -1},
	"pciconfig_read":          {-1, -1, -1},
	"pciconfig_write":         {-1, -1, -1},
	"perf_event_open":         {298, 336, 241},
	"personality":             {135, 136, 92},
	"pidfd_getfd":             {438, 438, 438},
	"pivot_root":              {155, 217, 41},
	"process_madvise":         {440, 440, 440},
	"process_vm_readv":        {310, 347, 270},
	"process_vm_writev":       {311, 348, 271},
	"ptrace":                  {101, 26, 117},
	"query_module":            {178, 167, -1},
	"quotactl":                {179, 131, 60},
	"quotactl_fd":             {443, 443, 443},
	"read":                    {0, 3, 63},
	"reboot":                  {169, 88, 142},
	"request_key":             {249, 287, 218},
	"set_mempolicy":           {238, 276, 237},
	"set_mempolicy_home_node": {450, 450, 450},
	"setdomainname":           {171, 121, 162},
	"sethostname":             {170, 74, 161},
	"setns":                   {308, 346, 268},
	"settimeofday":            {164, 79, 170},
	"socket":                  {41, 359, 198},
	"socketcall":              {-1, 102, -1},
	"statmount":               {457, 457, 457},
	"stime":                   {-1, 25, -1},
	"swapcontext":             {-1, -1, -1},
	"swapoff":                 {168, 115, 225},
	"swapon":                  {167, 87, 224},
	"sysfs":                   {139, 135, -1},
	"syslog":                  {103, 103, 116},
	"umount":                  {-1, 22, -1},
	"umount2":                 {166, 52, 39},
	"unshare":                 {272, 310, 97},
	"uselib":                  {134, 86, -1},
	"userfaultfd":             {323, 374, 282},
	"ustat":                   {136, 62, -1},
	"vhangup":                 {153, 111, 58},
	"vm86":                    {-1, 166, -1},
	"vm86old":                 {-1, 113, -1},
	"vmsplice":                {278, 316, 75},
}

var x32Own = map[string]int{
	"ioctl":             514,
	"kexec_load":        528,
	"move_pages":        533,
	"process_vm_readv":  539,
	"process_vm_writev": 540,
	"ptrace":            521,
	"vmsplice":          532,
}

// Architectures as filters see them (linux/audit.h), by the name that runtime-spec has for them.
const (
	archX86_64  = 0xc000003e
	archI386    = 0x40000003
	archAARCH64 = 0xc00000b7
	x32Bit      = 0x40000000
)

// ABI is one way to make a system call on a machine.
type ABI struct {
	Name string // amd64, x32, 386 or arm64
	arch uint32
}

// ABIs are those that a machine of this GOARCH knows; none where this package has no numbers for it.
func ABIs(goarch string) []ABI {
	switch goarch {
	case "amd64":
		return []ABI{{"amd64", archX86_64}, {"386", archI386}, {"x32", archX86_64}}
	case "arm64":
		return []ABI{{"arm64", archAARCH64}}
	}
	return nil
}

// Call is the call of that name. ok is false where the ABI has none.
func (a ABI) Call(name string, args ...uint64) (c Call, ok bool) {
	n, known := numbers[name]
	if !known {
		return c, false
	}
	number := -1
	switch a.Name {
	case "amd64":
		number = n.amd64
	case "386":
		number = n.i386
	case "arm64":
		number = n.arm64
	case "x32":
		if number = n.amd64; number >= 0 {
			if own, ok := x32Own[name]; ok {
				number = own
			}
			number |= x32Bit
		}
	}
	if number < 0 {
		return c, false
	}
	c = Call{Number: uint32(number), Arch: a.arch}
	copy(c.Args[:], args)
	return c, true
}
