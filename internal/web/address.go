package web

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// ForwardedBy names the one header in which the trusted proxies tell of their clients. Only that one is read: a proxy
// passes the other through as its client wrote it.
type ForwardedBy string

// The headers that proxies use.
const (
	XForwarded ForwardedBy = "X-Forwarded-For" // with X-Forwarded-Proto; the default
	Forwarded  ForwardedBy = "Forwarded"       // RFC 7239
)

// clientOf is the address of the client and whether its connection is TLS. What headers say counts only as far as a
// trusted proxy said it: the chain is read from the right, and the first address that is no trusted proxy is the
// client's. Anything malformed ends the walk at the last proxy that was understood.
func clientOf(r *http.Request, trusted []netip.Prefix, by ForwardedBy) (netip.Addr, bool) {
	peer := peerOf(r.RemoteAddr)
	secure := r.TLS != nil
	if !contains(trusted, peer) {
		return peer, secure
	}
	hops, https := hopsOf(r.Header, by)
	client := peer
	for _, hop := range slices.Backward(hops) {
		if !hop.IsValid() {
			break
		}
		if client = hop; !contains(trusted, hop) {
			break
		}
	}
	return client, secure || https
}

func peerOf(remote string) netip.Addr {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

func contains(prefixes []netip.Prefix, a netip.Addr) bool {
	return a.IsValid() && slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// hopsOf lists the addresses that the header holds, left to right, the zero address standing for one that is malformed
// or hidden, and whether every proxy that spoke of a protocol said https.
func hopsOf(h http.Header, by ForwardedBy) ([]netip.Addr, bool) {
	if by == Forwarded {
		return hopsOfForwarded(strings.Join(h.Values("Forwarded"), ","))
	}
	var hops []netip.Addr
	for _, s := range fields(h.Values("X-Forwarded-For"), ",") {
		hops = append(hops, node(s))
	}
	protos := fields(h.Values("X-Forwarded-Proto"), ",")
	return hops, allHTTPS(protos)
}

func fields(lines []string, sep string) []string {
	if len(lines) == 0 {
		return nil
	}
	parts := strings.Split(strings.Join(lines, sep), sep)
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

func allHTTPS(protos []string) bool {
	return len(protos) > 0 && !slices.ContainsFunc(protos, func(p string) bool { return !strings.EqualFold(p, "https") })
}

func hopsOfForwarded(line string) ([]netip.Addr, bool) {
	if line == "" {
		return nil, false
	}
	var hops []netip.Addr
	var protos []string
	for _, element := range splitQuoted(line, ',') {
		var hop netip.Addr
		for _, pair := range splitQuoted(element, ';') {
			name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
			value = unquote(value)
			switch strings.ToLower(name) {
			case "for":
				hop = node(value)
			case "proto":
				protos = append(protos, value)
			}
		}
		hops = append(hops, hop)
	}
	return hops, allHTTPS(protos)
}

// splitQuoted splits at sep outside of quoted strings.
func splitQuoted(s string, sep byte) []string {
	var parts []string
	quoted, start := false, 0
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case quoted && s[i] == '\\':
			i++
		case !quoted && s[i] == sep:
			parts, start = append(parts, s[start:i]), i+1
		}
	}
	return append(parts, s[start:])
}

func unquote(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return strings.ReplaceAll(s[1:len(s)-1], `\`, "")
	}
	return s
}

// node reads 192.0.2.1, 192.0.2.1:80, 2001:db8::1, [2001:db8::1] and [2001:db8::1]:80.
func node(s string) netip.Addr {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone("")
	}
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		s = s[1 : len(s)-1]
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap().WithZone("")
}
