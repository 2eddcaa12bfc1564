package apikey

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// RateLimit is how often something may happen in each length of time.
type RateLimit struct {
	Name    string `json:"name" minLength:"1" maxLength:"32" doc:"a-z 0-9 _ -" example:"requests"`
	Limit   int64  `json:"limit" minimum:"1" maximum:"1000000000" doc:"How often, in each window" example:"100"`
	Seconds int64  `json:"duration_seconds" minimum:"1" maximum:"2678400" doc:"How long a window is, to 31 days; it begins with the first use after the last one has ended" example:"60"`
}

// Window is the length of time.
func (l RateLimit) Window() time.Duration { return time.Duration(l.Seconds) * time.Second }

// in is a length of time as people say it after a number of times: "in an hour", "in 90 seconds".
func in(window time.Duration) string {
	for _, unit := range []struct {
		length    time.Duration
		one, many string
	}{{24 * time.Hour, "a day", "days"}, {time.Hour, "an hour", "hours"}, {time.Minute, "a minute", "minutes"}, {time.Second, "a second", "seconds"}} {
		switch n := window / unit.length; {
		case n == 1 && window%unit.length == 0:
			return "in " + unit.one
		case n > 1 && window%unit.length == 0:
			return fmt.Sprintf("in %d %s", n, unit.many)
		}
	}
	return "in " + window.String()
}

// String says a rate as people do: "burst, which is 5 in a minute"; a number of uses stands alone.
func (m Meter) String() string {
	whose := map[MeterOf]string{OfOwner: " for all keys of its owner together", OfMaker: " for all that came from a key which made it"}[m.Of]
	if m.Window == 0 {
		return fmt.Sprint(m.Limit) + whose
	}
	return fmt.Sprintf("%s, which is %d %s", m.Name, m.Limit, in(m.Window)) + whose
}

// The bounds of rate limits.
const (
	maxRateLimits    = 8
	maxRateLimitName = 32
	mostRate         = 1_000_000_000
	longestWindow    = 31 * 24 * 60 * 60 // seconds
)

// misfit is what is wrong with one thing of a list: words that go on after its place.
type misfit struct {
	at   int
	says string
}

// Error is the place, counted from 0 as in JSON, and the words.
func (m *misfit) Error() string { return fmt.Sprintf("[%d] %s", m.at, m.says) }

// checkRateLimits says what is wrong with limits, if anything: a *misfit, or words that go on after their name.
func checkRateLimits(limits []RateLimit) error {
	if len(limits) > maxRateLimits {
		return fmt.Errorf("has more than %d", maxRateLimits)
	}
	seen := map[string]bool{}
	for i, l := range limits {
		says := ""
		switch {
		case l.Name == "" || len(l.Name) > maxRateLimitName || strings.Trim(l.Name, "abcdefghijklmnopqrstuvwxyz0123456789_-") != "":
			says = fmt.Sprintf("has no name of 1 to %d of a-z 0-9 _ -", maxRateLimitName)
		case seen[l.Name]:
			says = "has the name of one before it"
		case l.Limit < 1 || l.Limit > mostRate:
			says = fmt.Sprintf("has a limit that is not between 1 and %d", mostRate)
		case l.Seconds < 1 || l.Seconds > longestWindow:
			says = fmt.Sprintf("has a duration_seconds that is not between 1 and %d, which is 31 days", longestWindow)
		}
		if says != "" {
			return &misfit{i, says}
		}
		seen[l.Name] = true
	}
	return nil
}

const maxCIDRs = 50

// parseCIDRs reads a list of addresses and networks. An address is a network of one, IPv4 written as IPv6 becomes IPv4,
// and what is there twice is there once. An address with a length is refused, as PostgreSQL's cidr does it: 10.0.0.1/8 may
// have been meant for one address or for sixteen million. ::/0 is all of IPv6 and none of IPv4. An error is a *misfit, or
// words that go on after the list's name; it quotes nothing.
func parseCIDRs(list []string) ([]netip.Prefix, error) {
	if len(list) > maxCIDRs {
		return nil, fmt.Errorf("has more than %d", maxCIDRs)
	}
	var networks []netip.Prefix
	for i, text := range list {
		p, err := parseCIDR(text)
		if err != nil {
			return nil, &misfit{i, err.Error()}
		}
		if !slices.Contains(networks, p) {
			networks = append(networks, p)
		}
	}
	return networks, nil
}

func parseCIDR(text string) (netip.Prefix, error) {
	const mapped = 96 // the bits before the IPv4 address in one that is written as IPv6
	p, err := netip.ParsePrefix(text)
	if err != nil {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return p, errors.New("is neither an address nor a network such as 192.0.2.0/24 or 2001:db8::/32")
		}
		if addr.Zone() != "" {
			return p, errors.New("has a zone, which only the machine that wrote it knows")
		}
		p = netip.PrefixFrom(addr, addr.BitLen())
	}
	if p.Addr().Is4In6() {
		if p.Bits() < mapped {
			return netip.Prefix{}, errors.New("is IPv4 written as IPv6 and reaches beyond it: write it as IPv4")
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-mapped)
	}
	if p != p.Masked() {
		return netip.Prefix{}, errors.New("is an address with the length of a network: write the address alone, or the network with zeros behind its length")
	}
	return p, nil
}

// allows reports whether an address is in one of the networks. Without any, every address is, even one that is not known.
func allows(networks []netip.Prefix, from netip.Addr) bool {
	from = from.Unmap()
	return len(networks) == 0 || slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(from) })
}

// cidrsWithin reports whether every network lies inside one of the wide ones; none at all is anywhere. Two halves that
// together hold a network do not count.
func cidrsWithin(narrow, wide []netip.Prefix) bool {
	if len(wide) == 0 {
		return true
	}
	return len(narrow) > 0 && !slices.ContainsFunc(narrow, func(n netip.Prefix) bool {
		return !slices.ContainsFunc(wide, func(w netip.Prefix) bool { return w.Bits() <= n.Bits() && w.Contains(n.Addr()) })
	})
}
