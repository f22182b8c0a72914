package shape

// HostUploadOf is the first IFB that an interface's upload may go through.
func HostUploadOf(veth uint32) string { return hostUpload(veth, fewSharers) }

// ShrinkTrees leaves room for n containers in each tree until the function it returns is called.
func ShrinkTrees(n uint32) func() {
	was := slotsPerTree
	slotsPerTree = n
	return func() { slotsPerTree = was }
}
