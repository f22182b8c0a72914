package harden

import (
	"path"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// AddHook adds a hook to a stage of the config, unless a program of that name is there already (an engine that reads
// hooks.d has put it in). Everything else stays byte for byte.
func AddHook(config []byte, stage string, hook jsontext.Value) ([]byte, error) {
	type program struct {
		Path string `json:"path"`
	}
	var want program
	if err := json.Unmarshal(hook, &want); err != nil {
		return nil, err
	}
	root, err := parseObject("", config, "hooks")
	if err != nil {
		return nil, err
	}
	hooks, err := root.child("hooks", "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
	if err != nil {
		return nil, err
	}
	var raws []jsontext.Value
	var have []program
	if _, err := hooks.decode(stage, &raws); err != nil {
		return nil, err
	}
	if _, err := hooks.decode(stage, &have); err != nil {
		return nil, err
	}
	for _, h := range have {
		if path.Base(h.Path) == path.Base(want.Path) {
			return config, nil
		}
	}
	if err := hooks.set(stage, append(raws, hook)); err != nil {
		return nil, err
	}
	if err := root.put("hooks", hooks); err != nil {
		return nil, err
	}
	return root.bytes(), nil
}
