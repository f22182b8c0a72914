package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/bulkhead-containers/bulkhead/pkg/plugin"
)

const full = `{"cniVersion":"1.1.0","name":"net","type":"egressdeny","config":"/p.toml","tenant":"blue","capabilities":{"portMappings":true},"example.com/x":[1],
"runtimeConfig":{"ips":["10.0.0.1"],"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp","hostIP":"0.0.0.0"},{"hostPort":53,"containerPort":53,"protocol":"UDP","hostIP":"::ffff:192.0.2.1"}]},
"cni.dev/valid-attachments":[{"containerID":"a","ifname":"eth0"}],
"prevResult":{"interfaces":[{"name":"br0"},{"name":"eth0","mac":"02:00:00:00:00:01","sandbox":"/n"}],"ips":[{"interface":1,"address":"10.0.0.2/24","gateway":"10.0.0.1"},{"address":"fd00::2/64"}],"dns":{"nameservers":["10.0.0.53"]}}}`

func TestParse(t *testing.T) {
	c, err := parse([]byte(full))
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "net" || c.Tenant != "blue" || c.PolicyFile != "/p.toml" || c.CNIVersion != "1.1.0" || len(c.Attachments) != 1 || c.Attachments[0].IfName != "eth0" {
		t.Errorf("%+v", c.Config)
	}
	ps, err := c.published()
	if err != nil || len(ps) != 2 || ps[0].HostPort != 8080 || ps[0].HostIP.IsValid() || ps[1].Proto != 17 || ps[1].HostIP.String() != "192.0.2.1" {
		t.Errorf("published: %+v %v", ps, err)
	}
	r, err := c.Result()
	if err != nil || len(r.Interfaces) != 2 || r.Interfaces[1].Sandbox != "/n" || len(r.IPs) != 2 || r.IPs[0].Gateway.String() != "10.0.0.1" || r.IPs[1].Gateway.IsValid() || r.DNS.Nameservers[0] != "10.0.0.53" {
		t.Errorf("result: %+v %v", r, err)
	}
	var out bytes.Buffer
	if err := c.PrintResult(&out); err != nil || !strings.HasPrefix(out.String(), `{"cniVersion":"1.1.0","interfaces":[`) {
		t.Errorf("printed: %s %v", out.String(), err)
	}
	for name, bad := range map[string]string{
		"unknown key": `{"name":"n","tenat":"x"}`, "tenant a number": `{"name":"n","tenant":5}`, "no name": `{}`, "twice": `{"name":"a","name":"b"}`,
		"more behind": `{"name":"n"} {}`, "cut short": `{"name":"n"`, "a port of letters": `{"name":"n","runtimeConfig":{"portMappings":[{"hostPort":"x"}]}}`,
	} {
		if _, err := parse([]byte(bad)); err == nil {
			t.Errorf("%s: passed", name)
		}
	}
	for name, bad := range map[string]string{"an address that is none": `{"ips":[{"address":"10.0.0.2"}]}`, "a list": `[]`} {
		c := &config{Config: plugin.Config{PrevResult: []byte(bad)}}
		if _, err := c.Result(); err == nil {
			t.Errorf("%s: passed", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte(`{"name":"n","prevResult":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parse(b)
		if err != nil {
			return
		}
		_, _ = c.published()
		if _, err := c.Result(); err != nil {
			return
		}
		var out bytes.Buffer
		if err := c.PrintResult(&out); err == nil && !bytes.Contains(out.Bytes(), []byte("cniVersion")) {
			t.Errorf("printed without a version: %s", out.Bytes())
		}
	})
}
