// Command cri does with a container engine what a kubelet does, for tests: a pod of one container from start to end, over the
// Container Runtime Interface (k8s.io/cri-api, runtime.v1). It prints what the container said and the ids of both.
//
//	cri -socket SOCKET -namespace NS -pod NAME -image IMAGE [-handler HANDLER] [-device CDI]... -- COMMAND...
//
// The few messages are written by hand: gRPC's own libraries would be most of this module's dependencies.
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

func main() {
	var r run
	flag.StringVar(&r.socket, "socket", "/run/containerd/containerd.sock", "the engine's `socket`")
	flag.StringVar(&r.namespace, "namespace", "default", "the pod's `namespace`")
	flag.StringVar(&r.pod, "pod", "pod", "the pod's `name`")
	flag.StringVar(&r.image, "image", "", "the container's `image`")
	flag.StringVar(&r.handler, "handler", "", "runtime `handler`")
	flag.Func("device", "CDI `device`, once for each", func(s string) error { r.devices = append(r.devices, s); return nil })
	flag.Parse()
	r.command = flag.Args()
	r.client.Transport = r.transport()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := r.do(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "cri:", err)
		os.Exit(1)
	}
}

type run struct {
	socket, namespace, pod, image, handler string
	devices, command                       []string
	client                                 http.Client
}

func (r *run) transport() *http.Transport {
	t := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", r.socket)
	}, Protocols: new(http.Protocols)}
	t.Protocols.SetUnencryptedHTTP2(true)
	return t
}

// do runs the pod to its end. The fields' numbers are those of api.proto.
func (r *run) do(ctx context.Context) error {
	logs, err := os.MkdirTemp("", "cri")
	if err != nil {
		return err
	}
	defer os.RemoveAll(logs)
	pod := join(field(1, join(text(1, r.pod), text(2, r.pod+"-uid"), text(3, r.namespace))), text(3, logs))
	sandbox, err := r.call(ctx, "RunPodSandbox", join(field(1, pod), text(2, r.handler)))
	if err != nil {
		return err
	}
	id := first(sandbox, 1)
	fmt.Println("sandbox", id)
	err = r.container(ctx, id, pod, logs)
	_, stop := r.call(ctx, "StopPodSandbox", text(1, id))
	_, remove := r.call(ctx, "RemovePodSandbox", text(1, id))
	return errors.Join(err, stop, remove)
}

func (r *run) container(ctx context.Context, sandbox string, pod []byte, logs string) error {
	config := join(field(1, text(1, "main")), field(2, text(1, r.image)), text(11, "main.log"))
	for _, word := range r.command {
		config = join(config, text(3, word))
	}
	for _, d := range r.devices {
		config = join(config, field(17, text(1, d)))
	}
	made, err := r.call(ctx, "CreateContainer", join(text(1, sandbox), field(2, config), field(3, pod)))
	if err != nil {
		return err
	}
	id := first(made, 1)
	fmt.Println("container", id)
	if _, err := r.call(ctx, "StartContainer", text(1, id)); err != nil {
		return err
	}
	for exited := false; !exited; time.Sleep(100 * time.Millisecond) {
		status, err := r.call(ctx, "ContainerStatus", text(1, id))
		if err != nil {
			return err
		}
		exited = number([]byte(first(status, 1)), 3) == 2 // CONTAINER_EXITED
	}
	if err := said(filepath.Join(logs, "main.log")); err != nil {
		return err
	}
	_, err = r.call(ctx, "RemoveContainer", text(1, id))
	return err
}

// said prints a log without its head: TIME STREAM F|P.
func said(name string) error {
	b, err := os.ReadFile(name)
	for line := range strings.Lines(string(b)) {
		if f := strings.SplitN(line, " ", 4); len(f) == 4 {
			fmt.Print(f[3])
		}
	}
	return err
}

// call is one unary gRPC call: a byte and a length before each message, the status in the trailers.
func (r *run) call(ctx context.Context, method string, msg []byte) ([]byte, error) {
	body := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(msg))), msg...)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://cri/runtime.v1.RuntimeService/"+method, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}}
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	for _, h := range []http.Header{resp.Header, resp.Trailer} { // an error may come without a body
		if status := h.Get("Grpc-Status"); status != "" && status != "0" {
			return nil, fmt.Errorf("%s: status %s: %s", method, status, h.Get("Grpc-Message"))
		}
	}
	if len(out) < 5 {
		return nil, fmt.Errorf("%s: HTTP %s, no message", method, resp.Status)
	}
	return out[5:], nil
}

func text(n protowire.Number, s string) []byte { return field(n, []byte(s)) }

func field(n protowire.Number, b []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), b)
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// first is the first value of a field of bytes; number that of a varint.
func first(b []byte, n protowire.Number) (out string) {
	walk(b, func(num protowire.Number, typ protowire.Type, v []byte) bool {
		if num == n && typ == protowire.BytesType {
			s, _ := protowire.ConsumeBytes(v)
			out = string(s)
		}
		return num != n
	})
	return out
}

func number(b []byte, n protowire.Number) (out uint64) {
	walk(b, func(num protowire.Number, typ protowire.Type, v []byte) bool {
		if num == n && typ == protowire.VarintType {
			out, _ = protowire.ConsumeVarint(v)
		}
		return num != n
	})
	return out
}

func walk(b []byte, f func(protowire.Number, protowire.Type, []byte) bool) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return
		}
		size := protowire.ConsumeFieldValue(num, typ, b[n:])
		if size < 0 || !f(num, typ, b[n:n+size]) {
			return
		}
		b = b[n+size:]
	}
}
