package fetch

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"
)

// origin is where a request goes, in the one form that can be compared: a name in lower case and in ASCII, without a dot at its end,
// or an address as netip writes it; and a port, always.
type origin struct {
	scheme, host string
	port         uint16
	below        bool // stands for every name below the host
}

// authority is the origin as it stands in an address. It names the port only where it is not the usual one.
func (o origin) authority() string {
	host := o.host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if o.port == usualPort(o.scheme) {
		return host
	}
	return host + ":" + strconv.Itoa(int(o.port))
}

func usualPort(scheme string) uint16 {
	if scheme == "http" {
		return 80
	}
	return 443
}

func (o origin) covers(other origin) bool {
	if o.scheme != other.scheme || o.port != other.port {
		return false
	}
	if o.below {
		return strings.HasSuffix(other.host, "."+o.host)
	}
	return o.host == other.host
}

// allowed reads a host of a policy.
func allowed(text string) (o origin, err error) {
	scheme := "https"
	for _, s := range []string{"http", "https"} {
		if rest, ok := strings.CutPrefix(text, s+"://"); ok {
			scheme, text = s, rest
		}
	}
	text, below := strings.CutPrefix(text, "*.")
	if o, err = parseOrigin(scheme, text); err != nil {
		return o, err
	}
	if o.below = below; !below {
		return o, nil
	}
	if _, err := netip.ParseAddr(o.host); err == nil {
		return o, errors.New("there are no names below an address")
	}
	// Below com, co.uk or github.io, names are whoever's takes them.
	if suffix, _ := publicsuffix.PublicSuffix(o.host); suffix == o.host {
		return o, errors.New("anybody can have a name below it")
	}
	return o, nil
}

var errHost = errors.New("it is no host: a name or an address, and a port if it is not the usual one")

// parseOrigin reads host[:port]. Whatever another program might read in another way is refused: percent-encoding, user names, addresses
// in decimal, octal, hexadecimal or short form, zones.
func parseOrigin(scheme, text string) (origin, error) {
	o := origin{scheme: scheme, port: usualPort(scheme)}
	if strings.ContainsAny(text, "%@\\/?#*") || len(text) > 1000 {
		return o, errHost
	}
	host, port := text, ""
	if strings.HasPrefix(text, "[") {
		inside, rest, ok := strings.Cut(text[1:], "]")
		a, err := netip.ParseAddr(inside)
		if !ok || err != nil || !a.Is6() || rest != "" && rest[0] != ':' {
			return o, errHost
		}
		host, port = a.Unmap().String(), rest
	} else {
		if at := strings.IndexByte(text, ':'); at >= 0 {
			host, port = text[:at], text[at:]
		}
		var err error
		if host, err = name(host); err != nil {
			return o, err
		}
	}
	o.host = host
	if port == "" || port == ":" {
		return o, nil
	}
	n, err := strconv.ParseUint(port[1:], 10, 16)
	if err != nil || n == 0 {
		return o, errHost
	}
	o.port = uint16(n)
	return o, nil
}

// name is a name or an IPv4 address in canonical form.
func name(host string) (string, error) {
	if !utf8.ValidString(host) { // idna would take broken bytes for a letter of their own
		return "", errHost
	}
	host, err := idna.Lookup.ToASCII(host) // also takes full-width digits and dots to the usual ones
	if err != nil || strings.Contains(host, "..") || strings.HasPrefix(host, ".") {
		return "", errHost
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "" || len(host) > 253 {
		return "", errHost
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	if strings.Trim(last, "0123456789") == "" || strings.HasPrefix(last, "0x") { // so it is an address, and of those only the usual form
		a, err := netip.ParseAddr(host)
		if err != nil {
			return "", errHost
		}
		return a.String(), nil
	}
	return host, nil
}
