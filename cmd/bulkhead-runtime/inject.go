package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/bulkhead-containers/bulkhead/pkg/harden"
)

// hookFile is what bulkhead's own files in hooks.d hold (hooks.d's schema 1.0.0).
type hookFile struct {
	Hook   jsontext.Value `json:"hook"`
	Stages []string       `json:"stages"`
}

// hooksDir is where packages put hooks.d files, and engines that read them look.
const hooksDir = "/usr/share/containers/oci/hooks.d"

// inject adds to the config the hooks of bulkhead that the engine did not: those of dir, at the stages that runtimes
// know. An engine that reads hooks.d itself has put them in already.
func inject(config []byte, dir string) ([]byte, error) {
	if dir == "none" {
		return config, nil
	}
	named := dir != ""
	if !named {
		dir = hooksDir
	}
	files, err := filepath.Glob(filepath.Join(dir, "*bulkhead*.json"))
	if err != nil {
		return nil, fmt.Errorf("find hooks: %w", err)
	}
	if len(files) == 0 && named {
		return nil, fmt.Errorf("find hooks: none of bulkhead's in %s", dir)
	}
	for _, file := range files { // sorted by Glob, as engines order them
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read hook: %w", err)
		}
		var h hookFile
		if err := json.Unmarshal(b, &h); err != nil {
			return nil, fmt.Errorf("decode %s: %w", file, err)
		}
		for _, stage := range h.Stages {
			if stage == "precreate" {
				continue // the engine's own stage; this program is in its place
			}
			if config, err = harden.AddHook(config, stage, h.Hook); err != nil {
				return nil, fmt.Errorf("add hook of %s: %w", file, err)
			}
		}
	}
	return config, nil
}
