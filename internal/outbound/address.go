package outbound

import (
	"net/netip"
	"slices"
)

// Public reports whether an address is of the public internet, and so is what it stands for, if it is one of those of IPv6 that
// hold one of IPv4.
func Public(a netip.Addr) bool {
	if a.Zone() != "" {
		return false
	}
	if a = a.Unmap(); a.Is4() {
		return !within(reserved4, a) && !within(clouds4, a)
	}
	if nat64.Contains(a) { // a network without IPv4 reaches the old internet by these
		b := a.As16()
		return Public(netip.AddrFrom4([4]byte(b[12:])))
	}
	return global.Contains(a) && !within(reserved6, a)
}

func within(list []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
}

// The special-purpose registries of IANA, and what never was global. Of IPv6 only 2000::/3 is given out.
var (
	reserved4 = prefixes("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
		"192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
		"224.0.0.0/4", "240.0.0.0/4")
	reserved6 = prefixes("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
	// clouds4 is what clouds serve to their own machines at addresses that look public: what a machine is told of itself on Azure, and IBM's
	// own services. Those of others are in networks that are reserved.
	clouds4 = prefixes("168.63.129.16/32", "161.26.0.0/16", "166.8.0.0/14")
	global  = netip.MustParsePrefix("2000::/3")
	nat64   = netip.MustParsePrefix("64:ff9b::/96")
)

func prefixes(all ...string) []netip.Prefix {
	list := make([]netip.Prefix, len(all))
	for i, s := range all {
		list[i] = netip.MustParsePrefix(s)
	}
	return list
}
