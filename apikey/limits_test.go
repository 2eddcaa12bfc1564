package apikey

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestRateLimits(t *testing.T) {
	t.Parallel()
	allow := func(limits ...RateLimit) {
		t.Helper()
		if err := checkRateLimits(limits); err != nil {
			t.Errorf("%v: it %v", limits, err)
		}
	}
	deny := func(says string, limits ...RateLimit) {
		t.Helper()
		if err := checkRateLimits(limits); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: it %v; want %s", limits, err, says)
		}
	}
	many := func(n int) (limits []RateLimit) {
		for i := range n {
			limits = append(limits, RateLimit{fmt.Sprint("l", i), 1, 1})
		}
		return limits
	}
	allow()
	allow(RateLimit{"a", 1, 1}, RateLimit{"b", 1, 1})
	allow(RateLimit{strings.Repeat("x", 32), 1e9, 31 * 24 * 3600})
	allow(RateLimit{"per_minute-2", 600, 60})
	allow(many(8)...)
	deny("more than 8", many(9)...)
	deny("[0] has no name", RateLimit{"", 1, 1})
	deny("[1] has no name", RateLimit{"a", 1, 1}, RateLimit{strings.Repeat("x", 33), 1, 1})
	for _, name := range []string{"A", "a b", "a.b", "ä", "a\n", "a!b"} {
		deny("no name", RateLimit{name, 1, 1})
	}
	deny("[2] has the name of one before it", RateLimit{"a", 1, 1}, RateLimit{"b", 1, 1}, RateLimit{"a", 2, 60})
	for _, n := range []int64{0, -1, math.MinInt64, 1e9 + 1, math.MaxInt64} {
		deny("[0] has a limit", RateLimit{"a", n, 1})
	}
	for _, seconds := range []int64{0, -1, 31*86400 + 1, math.MaxInt64, math.MinInt64} {
		deny("[0] has a duration_seconds", RateLimit{"a", 1, seconds})
	}
}

// TestRateLimitWindow: no length of time that is let in overflows.
func TestRateLimitWindow(t *testing.T) {
	t.Parallel()
	if w := (RateLimit{"a", 1, longestWindow}).Window(); w != 31*24*time.Hour {
		t.Errorf("the longest window is %s", w)
	}
}

// TestMeterWords: a rate is said as people say it.
func TestMeterWords(t *testing.T) {
	t.Parallel()
	for seconds, want := range map[int64]string{
		1: "in a second", 2: "in 2 seconds", 60: "in a minute", 90: "in 90 seconds", 3600: "in an hour", 300: "in 5 minutes", 86400: "in a day", 36 * 3600: "in 36 hours", 31 * 86400: "in 31 days",
	} {
		if got := (Meter{Name: "x", Limit: 5, Window: (RateLimit{"x", 5, seconds}).Window()}).String(); got != "x, which is 5 "+want {
			t.Errorf("5 in %d seconds is said as %s", seconds, got)
		}
	}
}

func cidrs(t testing.TB, list ...string) []netip.Prefix {
	t.Helper()
	networks, err := parseCIDRs(list)
	if err != nil {
		t.Fatalf("%v: it %v", list, err)
	}
	return networks
}

func TestParseCIDRs(t *testing.T) {
	t.Parallel()
	many := make([]string, 50)
	for i := range many {
		many[i] = fmt.Sprintf("10.0.0.%d", i)
	}
	for text, want := range map[string]string{
		"":                     "[]",
		"192.0.2.7":            "[192.0.2.7/32]",
		"192.0.2.0/24":         "[192.0.2.0/24]",
		"2001:DB8::1":          "[2001:db8::1/128]",
		"2001:db8:0:1::/64":    "[2001:db8:0:1::/64]",
		"0.0.0.0/0 ::/0":       "[0.0.0.0/0 ::/0]",
		"::ffff:192.0.2.7":     "[192.0.2.7/32]",
		"::ffff:192.0.2.0/120": "[192.0.2.0/24]",
		"::ffff:0:0/96":        "[0.0.0.0/0]",
		"10.0.0.1 10.0.0.0/8 10.0.0.1/32 10.0.0.0/8 ::ffff:10.0.0.1 ::a00:1": "[10.0.0.1/32 10.0.0.0/8 ::a00:1/128]",
	} {
		if got, err := parseCIDRs(strings.Fields(text)); err != nil || fmt.Sprint(got) != want {
			t.Errorf("%s is %v, %v", text, got, err)
		}
	}
	cidrs(t, many...)
	if _, err := parseCIDRs(append(many, many[0])); err == nil || err.Error() != "has more than 50" {
		t.Errorf("51 are %v", err)
	}
	for _, text := range []string{
		"", " ", "secret", "192.0.2.7 ", "192.0.2.07", "192.0.2", "192.0.2.256", "192.0.2.0/33", "192.0.2.0/-1", "192.0.2.0/024", "192.0.2.0/", "/24", "3221225991",
		"0x7f.1", "2001:db8::/129", "2001:db8:::1", "fe80::1%eth0", "fe80::1%eth0/64", "::ffff:0:0/95", "::ffff:192.0.2.7/0", "192.0.2.1-192.0.2.9",
		"10.0.0.1/8", "192.0.2.7/24", "2001:db8::9/64", "::ffff:192.0.2.7/120", "0.0.0.1/0", "::1/0", "[2001:db8::1]", "192.0.2.7:80", "*", "١٩٢.0.2.1",
	} {
		_, err := parseCIDRs([]string{"192.0.2.1", text})
		if err == nil || !strings.HasPrefix(err.Error(), "[1] ") || text == "secret" && strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestAddressAllowed(t *testing.T) {
	t.Parallel()
	both := cidrs(t, "192.0.2.0/24", "198.51.100.7", "2001:db8::/32", "fe80::/10", "::ffff:203.0.113.0/124")
	allow := func(networks []netip.Prefix, from string) {
		t.Helper()
		if !allows(networks, netip.MustParseAddr(from)) {
			t.Errorf("%s is refused", from)
		}
	}
	deny := func(networks []netip.Prefix, from string) {
		t.Helper()
		if allows(networks, netip.MustParseAddr(from)) {
			t.Errorf("%s is allowed", from)
		}
	}
	for _, from := range []string{"192.0.2.0", "192.0.2.255", "198.51.100.7", "::ffff:192.0.2.9", "2001:db8::", "2001:db8:ffff::1", "fe80::1", "203.0.113.15"} {
		allow(both, from)
		allow(nil, from)
	}
	for _, from := range []string{
		"192.0.1.255", "192.0.3.0", "198.51.100.8", "::ffff:192.0.3.0", "2001:db9::", "2001:db7:ffff::", "203.0.113.16", "::c000:209",
		"fe80::1%eth0", // a zone is another network with the same addresses
	} {
		deny(both, from)
		allow(nil, from)
	}
	deny(cidrs(t, "::/0"), "192.0.2.1")
	deny(cidrs(t, "0.0.0.0/0"), "2001:db8::1")
	allow(cidrs(t, "0.0.0.0/0"), "::ffff:192.0.2.1")
	if allows(both, netip.Addr{}) || allows(cidrs(t, "0.0.0.0/0", "::/0"), netip.Addr{}) || !allows(nil, netip.Addr{}) {
		t.Error("an address that is not known is allowed if there is a list, or refused if there is none")
	}
}

func TestCIDRsWithin(t *testing.T) {
	t.Parallel()
	for what, tt := range map[string]struct {
		narrow, wide string
		want         bool
	}{
		"nothing within nothing":          {"", "", true},
		"some within nothing":             {"10.0.0.0/8", "", true},
		"nothing within some":             {"", "10.0.0.0/8", false},
		"nothing within all that is":      {"", "0.0.0.0/0 ::/0", false},
		"the same":                        {"10.0.0.0/8", "10.0.0.0/8", true},
		"an address of it":                {"10.255.255.255", "10.0.0.0/8", true},
		"each in another":                 {"10.1.0.0/16 2001:db8::1", "2001:db8::/32 10.0.0.0/8", true},
		"one is not":                      {"10.1.0.0/16 11.0.0.0/16", "10.0.0.0/8", false},
		"wider":                           {"10.0.0.0/7", "10.0.0.0/8", false},
		"wider, with the same first bits": {"10.0.0.0/8", "10.0.0.0/9", false},
		"two halves":                      {"10.0.0.0/8", "10.0.0.0/9 10.128.0.0/9", false},
		"the other family":                {"::/96", "0.0.0.0/0", false},
		"the other family, shorter":       {"1.2.3.4", "::/0", false},
		"IPv4 written as IPv6":            {"::ffff:10.1.0.0/112", "10.0.0.0/8", true},
	} {
		if got := cidrsWithin(cidrs(t, strings.Fields(tt.narrow)...), cidrs(t, strings.Fields(tt.wide)...)); got != tt.want {
			t.Errorf("%s: %t", what, got)
		}
	}
}

// nearby draws addresses and networks so close together that they meet, in both families.
func nearby(t *rapid.T, label string) netip.Prefix {
	addr := netip.AddrFrom4([4]byte{10, 0, 0, rapid.Byte().Draw(t, label)})
	least := 24
	if rapid.Bool().Draw(t, label+" is IPv6") {
		addr, least = netip.AddrFrom16([16]byte{0x20, 0x01, 15: rapid.Byte().Draw(t, label)}), 120
	}
	return netip.PrefixFrom(addr, least+rapid.IntRange(0, 8).Draw(t, label+" bits")).Masked()
}

// TestCIDRProperties compares with what bits say: an address is in a network if their first bits are the same, and a list
// within another refuses every address that the other refuses.
func TestCIDRProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string) (texts []string) {
			for range rapid.IntRange(0, 4).Draw(t, label+" length") {
				texts = append(texts, nearby(t, label).String())
			}
			return texts
		}
		text := draw("list")
		list, err := parseCIDRs(text)
		if err != nil {
			t.Fatal(err)
		}
		from := nearby(t, "from").Addr()
		want := len(text) == 0 || slices.ContainsFunc(text, func(s string) bool {
			p := netip.MustParsePrefix(s)
			return p.Addr().BitLen() == from.BitLen() && firstBits(p.Addr(), p.Bits()) == firstBits(from, p.Bits())
		})
		if allows(list, from) != want || from.Is4() && allows(list, netip.AddrFrom16(from.As16())) != want {
			t.Fatalf("%s of %v: %t", from, text, !want)
		}
		wide, err := parseCIDRs(draw("wide"))
		if err != nil {
			t.Fatal(err)
		}
		if cidrsWithin(list, wide) && allows(list, from) && !allows(wide, from) {
			t.Fatalf("%v is said to be within %v, and allows %s", list, wide, from)
		}
	})
}

func firstBits(a netip.Addr, n int) string {
	var b strings.Builder
	for _, c := range a.AsSlice() {
		fmt.Fprintf(&b, "%08b", c)
	}
	return b.String()[:n]
}

func FuzzCIDR(f *testing.F) {
	for _, s := range []string{"192.0.2.7", "10.1.2.3/8", "2001:db8::1/33", "::ffff:10.0.0.1/100", "fe80::1%a", "::/0", "0.0.0.0/0", "1.2.3.4/x"} {
		f.Add(s, []byte{10, 1, 2, 3})
	}
	f.Fuzz(func(t *testing.T, text string, raw []byte) {
		list, err := parseCIDRs([]string{text})
		if err != nil {
			return
		}
		p := list[0]
		if len(list) != 1 || !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() || p.Addr().Zone() != "" {
			t.Fatalf("%q is read as %v", text, list)
		}
		if again, err := parseCIDRs([]string{p.String(), text}); err != nil || !slices.Equal(list, again) {
			t.Fatalf("%q is %v, and %v when it is read again, %v", text, list, again, err)
		}
		if !cidrsWithin(list, list) || !allows(list, p.Addr()) {
			t.Fatalf("%v is not within itself", p)
		}
		if from, ok := netip.AddrFromSlice(raw); ok && allows(list, from) != allows(list, from.Unmap()) {
			t.Fatalf("%v of %v is allowed in one of its forms only", from, p)
		}
	})
}
