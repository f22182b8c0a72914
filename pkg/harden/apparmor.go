package harden

import (
	_ "embed"
	"slices"
	"strings"
)

//go:embed apparmor.profile
var apparmorProfile string

// AppArmorText is the profile that comes with bulkhead, under the name for this tenant; "" is everybody's.
func AppArmorText(tenant string) string {
	if tenant == "" {
		return apparmorProfile
	}
	return strings.Replace(apparmorProfile, "profile "+AppArmorProfile+" ", "profile "+AppArmorName(tenant)+" ", 1)
}

// AppArmorName is what a tenant's own profile is called.
func AppArmorName(tenant string) string { return AppArmorProfile + "." + tenant }

// confinement is the profile to confine with: the tenant's own where that is loaded, since it is the one that keeps
// tenants' signals apart; "" where none is.
func (r Rules) confinement(loaded []string) string {
	if own := AppArmorName(r.Tenant); r.AppArmor == AppArmorProfile && r.Tenant != "" && slices.Contains(loaded, own) {
		return own
	}
	if slices.Contains(loaded, r.AppArmor) {
		return r.AppArmor
	}
	return ""
}
