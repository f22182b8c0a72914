package tenant

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// helperEnv makes the test binary a process of its own that does one thing
// with a registry, and dies by SIGKILL at the step that dieEnv names.
const (
	helperEnv = "BULKHEAD_TEST_TENANT_HELPER"
	dieEnv    = "BULKHEAD_TEST_TENANT_DIE"
)

// job is what a helper does.
type job struct {
	Lib, Run, Categories string
	Do                   string // ensure, retire, forget, add, settle, join
	Names                []string
}

// answer is what a helper printed.
type answer struct {
	Tenants []Tenant
	Alone   []uint32
	Err     string
}

func TestMain(m *testing.M) {
	if text := os.Getenv(helperEnv); text != "" {
		helper(text)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func helper(text string) {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		panic(err)
	}
	if at, err := strconv.Atoi(os.Getenv(dieEnv)); err == nil {
		n := 0
		step = func() {
			if n++; n == at {
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		}
	}
	reg := OpenRegistry(j.Lib, j.Categories)
	p := &policy.Policy{State: policy.State{Lib: j.Lib, Run: j.Run}}
	var a answer
	for _, name := range j.Names {
		var t Tenant
		var err error
		switch j.Do {
		case "ensure":
			t, err = reg.Ensure(name)
		case "add":
			t, err = reg.Add(name)
		case "retire":
			err = reg.Retire(name)
		case "forget":
			err = reg.Forget(name)
		case "settle":
			var rec Record
			rec, err = Settle(p, OpenRecords(j.Run), reg, Evidence{ContainerID: name, CgroupsPath: "/x/" + name})
			a.Alone = append(a.Alone, rec.Compartment)
		case "join": // a container each, of a tenant that is new to all
			var rec Record
			id := fmt.Sprintf("c%d", os.Getpid())
			rec, err = Settle(p, OpenRecords(j.Run), reg, Evidence{ContainerID: id, CgroupsPath: "/bulkhead-" + name + "/libpod-" + id})
			t = Tenant{Name: rec.Identity.Tenant, ID: rec.Compartment}
		}
		if err != nil {
			a.Err = err.Error()
			break
		}
		a.Tenants = append(a.Tenants, t)
	}
	if err := json.NewEncoder(os.Stdout).Encode(a); err != nil {
		panic(err)
	}
}

// start runs a helper; die 0 lets it live.
func start(t *testing.T, j job, die int) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(os.Args[0])
	c.Env = []string{helperEnv + "=" + string(text), "GOMAXPROCS=1"}
	if die > 0 {
		c.Env = append(c.Env, dieEnv+"="+strconv.Itoa(die))
	}
	c.Stdout, c.Stderr = new(bytes.Buffer), new(bytes.Buffer)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c
}

// wait is the helper's answer; killed says that it died at its step.
func wait(t *testing.T, c *exec.Cmd) (a answer, killed bool) {
	t.Helper()
	err := c.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return a, true
	}
	if err != nil {
		t.Fatalf("%v: %s", err, c.Stderr)
	}
	if err := json.Unmarshal(c.Stdout.(*bytes.Buffer).Bytes(), &a); err != nil {
		t.Fatal(err)
	}
	return a, false
}

// sound says what is wrong with a registry, if anything.
func sound(reg *Registry) error {
	if problems := reg.Problems(); len(problems) > 0 {
		return errors.Join(problems...)
	}
	all, err := reg.List()
	if err != nil {
		return err
	}
	pairs, ids := map[string]string{}, map[uint32]string{}
	for _, t := range all {
		if other, ok := pairs[t.Pair.String()]; ok {
			return fmt.Errorf("%s and %s have pair %s", other, t.Name, t.Pair)
		}
		if other, ok := ids[t.ID]; ok {
			return fmt.Errorf("%s and %s have id %d", other, t.Name, t.ID)
		}
		pairs[t.Pair.String()], ids[t.ID] = t.Name, t.Name
	}
	return nil
}

func tenantNames(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = "t" + strings.Repeat("x", i%5) + strconv.Itoa(i)
	}
	return out
}
