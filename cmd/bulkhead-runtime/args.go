package main

import (
	"fmt"
	"slices"
	"strings"
)

// invocation is one call of an OCI runtime.
type invocation struct {
	args    []string // for the real runtime, its name first
	config  string   // --bulkhead-config
	want    string   // --bulkhead-runtime, or what the program's own name says after "bulkhead-"
	hooks   string   // --bulkhead-hooks
	version bool     // --bulkhead-version

	verb             string // "" where there is none
	log, logFormat   string
	bundle, specFile string // create, run, restore
	noPivot, help    bool
	process          int    // exec: index in args of the process file, or of --process=FILE; 0 is none
	processPrefix    string // "--process=" or "-p" where it is one word
	caps             []string
	id               string
	runtime          string // path of the real runtime
}

// Options that take a value as the next word, for runc (urfave/cli: one dash or two) and crun (argp).
var (
	globalValues = []string{"log", "log-format", "log-level", "root", "criu", "rootless", "cgroup-manager"}
	globalFlags  = []string{"debug", "systemd-cgroup", "help", "h", "?", "usage", "version", "v", "V"}
	createValues = []string{"bundle", "b", "console-socket", "pid-file", "preserve-fds", "pidfd-socket", "config", "f",
		"image-path", "work-path", "parent-path", "status-fd", "manage-cgroups-mode", "empty-ns", "lsm-profile", "lsm-mount-context"}
	execValues = []string{"process", "p", "cap", "c", "env", "e", "user", "u", "cwd", "console-socket", "pid-file", "process-label",
		"apparmor", "additional-gids", "g", "preserve-fds", "cgroup", "pidfd-socket"}
	creating = []string{"create", "run", "restore"}
)

// split takes an option apart: its name without dashes, and its value where that is in the same word.
func split(word string) (name, value string, joined bool) {
	name = strings.TrimPrefix(strings.TrimPrefix(word, "-"), "-")
	name, value, joined = strings.Cut(name, "=")
	return name, value, joined
}

func parse(argv []string) (invocation, error) {
	inv := invocation{bundle: "."}
	if base := argv[0][strings.LastIndexByte(argv[0], '/')+1:]; base != "bulkhead-runtime" {
		inv.want = strings.TrimPrefix(base, "bulkhead-")
	}
	rest := argv[1:]
	for len(rest) > 0 && strings.HasPrefix(rest[0], "--bulkhead-") {
		name, value, joined := split(rest[0])
		rest = rest[1:]
		if name == "bulkhead-version" {
			inv.version = true
			return inv, nil
		}
		if !joined {
			if len(rest) == 0 {
				return inv, fmt.Errorf("parse arguments: --%s wants a value", name)
			}
			value, rest = rest[0], rest[1:]
		}
		switch name {
		case "bulkhead-config":
			inv.config = value
		case "bulkhead-runtime":
			inv.want = value
		case "bulkhead-hooks":
			inv.hooks = value
		default:
			return inv, fmt.Errorf("parse arguments: no option --%s; have --bulkhead-config, --bulkhead-runtime, --bulkhead-hooks", name)
		}
	}
	inv.args = append([]string{argv[0]}, rest...)
	i, err := inv.global()
	if err != nil || i == len(inv.args) {
		return inv, err
	}
	inv.verb = inv.args[i]
	switch {
	case slices.Contains(creating, inv.verb):
		err = inv.create(i + 1)
	case inv.verb == "exec":
		err = inv.exec(i + 1)
	}
	return inv, err
}

// global reads what stands before the verb and gives the verb's index. A word that might be the value of an option
// not known here might also be the verb: that is an error, since to guess wrong would leave a container as it is.
func (inv *invocation) global() (int, error) {
	for i := 1; i < len(inv.args); i++ {
		word := inv.args[i]
		if !strings.HasPrefix(word, "-") || word == "-" {
			return i, nil
		}
		name, value, joined := split(word)
		switch {
		case slices.Contains(globalFlags, name):
			continue
		case slices.Contains(globalValues, name):
			if !joined {
				if i++; i == len(inv.args) {
					return i, nil // the runtime says what is wrong
				}
				value = inv.args[i]
			}
		case !joined:
			return i, fmt.Errorf("parse arguments: option %s is not known, and what follows it might be its value or the verb; write it %s=VALUE", word, word)
		}
		switch name {
		case "log":
			inv.log = value
		case "log-format":
			inv.logFormat = value
		}
	}
	return len(inv.args), nil
}

// options walks the words of a verb from index i and gives the index of the first that is no option. found gets
// each option's name, its value and the index of the word that holds the value.
func (inv *invocation) options(i int, values []string, short string, found func(name, value string, at int)) int {
	for ; i < len(inv.args); i++ {
		word := inv.args[i]
		if word == "--" {
			return i + 1
		}
		if !strings.HasPrefix(word, "-") || word == "-" {
			return i
		}
		name, value, joined := split(word)
		if !slices.Contains(values, name) {
			found(name, value, i)
			if !joined && !strings.HasPrefix(word, "--") {
				i = inv.cluster(i, name, short, found)
			}
			continue
		}
		if !joined {
			if i++; i == len(inv.args) {
				return i
			}
			value = inv.args[i]
		}
		found(name, value, i)
	}
	return i
}

// cluster reads argp's -tbDIR: letters without a value, then one of short with its own in the same word or the next.
func (inv *invocation) cluster(i int, letters, short string, found func(string, string, int)) int {
	for k := range letters {
		if !strings.Contains(short, letters[k:k+1]) {
			continue
		}
		value := letters[k+1:]
		if value == "" {
			if i++; i == len(inv.args) {
				return i
			}
			value = inv.args[i]
		}
		found(letters[k:k+1], value, i)
		break
	}
	return i
}

func (inv *invocation) create(i int) error {
	i = inv.options(i, createValues, "bf", func(name, value string, _ int) {
		switch name {
		case "b", "bundle":
			inv.bundle = value
		case "f", "config":
			inv.specFile = value
		case "no-pivot":
			inv.noPivot = value != "false"
		case "h", "help", "?", "usage":
			inv.help = true
		}
	})
	if i < len(inv.args) {
		inv.id = inv.args[i]
	}
	// crun's argp takes options after the id as well.
	for _, word := range inv.args[min(i+1, len(inv.args)):] {
		switch name, _, _ := split(word); {
		case !strings.HasPrefix(word, "-"):
		case name == "b" || name == "bundle" || name == "f" || name == "config" || name == "no-pivot":
			return fmt.Errorf("parse arguments: %s stands after the container's id; put it before", word)
		}
	}
	return nil
}

func (inv *invocation) exec(i int) error {
	i = inv.options(i, execValues, "pceug", func(name, value string, at int) {
		switch name {
		case "p", "process":
			inv.process, inv.processPrefix = at, strings.TrimSuffix(inv.args[at], value)
		case "c", "cap":
			inv.caps = append(inv.caps, value)
		case "h", "help", "?", "usage":
			inv.help = true
		}
	})
	if i < len(inv.args) {
		inv.id = inv.args[i]
	}
	return nil
}

// processFile is the path after --process.
func (inv *invocation) processFile() string {
	if inv.process == 0 {
		return ""
	}
	return strings.TrimPrefix(inv.args[inv.process], inv.processPrefix)
}
