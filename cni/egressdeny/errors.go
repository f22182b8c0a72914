package main

import (
	"errors"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/rtnl"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

// Codes of this plugin's own, from 100 on as the specification has them.
const (
	codeRefused = 100 // the policy refuses
	codeInUse   = 101 // another container's live interface holds the address or MAC
	codeDiffers = 102 // CHECK: not as it was made
	codeFull    = 103 // no room in the port's maps
)

// code is the one place that turns errors into CNI's numbers.
func code(err error) uint {
	var refusal *policy.Refusal
	for _, m := range []struct {
		is   bool
		code uint
	}{
		{errors.Is(err, errDecode), types.ErrDecodingFailure},
		{errors.Is(err, errUnavailable), types.ErrPluginNotAvailable},
		{errors.As(err, &refusal), codeRefused},
		{errors.Is(err, tenant.ErrDisagree), codeRefused},
		{errors.Is(err, port.ErrInUse), codeInUse},
		{errors.Is(err, port.ErrDiffers), codeDiffers},
		{errors.Is(err, port.ErrFull), codeFull},
		{errors.Is(err, errConfig), types.ErrInvalidNetworkConfig},
		{errors.Is(err, policy.ErrInvalid), types.ErrInvalidNetworkConfig},
		{errors.Is(err, port.ErrNoHostSide), types.ErrInvalidNetworkConfig},
		{errors.Is(err, rtnl.ErrNotExist), types.ErrUnknownContainer},
	} {
		if m.is {
			return m.code
		}
	}
	return types.ErrInternal
}

// mapped gives a verb's error its number, and its hint.
func (plugin) mapped(f func(*skel.CmdArgs) error) func(*skel.CmdArgs) error {
	return func(args *skel.CmdArgs) error {
		err := f(args)
		if err == nil {
			return nil
		}
		details := ""
		if h := policy.HintOf(err); h != "" {
			details = "hint: " + h
		}
		return types.NewError(code(err), err.Error(), details)
	}
}
