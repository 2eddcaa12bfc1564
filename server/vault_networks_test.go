package server

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/avouch-dev/avouch/internal/outbound"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/vault/fetch"
)

// TestVaultNetworks: a network that the operator opens to the server's own requests is not open to those that carry an organisation's
// secrets, nor the other way round; without a variable neither reaches any.
func TestVaultNetworks(t *testing.T) {
	t.Parallel()
	var dialled []string
	record := outbound.Config{
		Lookup: func(_ context.Context, _, host string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr(strings.Replace(host, "inside.example", "10.20.0.9", 1))}, nil
		},
		Dial: func(_ context.Context, _, address string) (net.Conn, error) {
			dialled = append(dialled, address)
			return nil, errors.New("recorded, not dialled")
		},
	}
	hosts := fetch.Policy{Hosts: []string{"https://inside.example", "http://10.20.0.9"}, Header: "Authorization", Value: "{secret}"}
	for _, c := range []struct {
		cfg  Config
		want []string
	}{
		{Config{}, nil}, {Config{OutboundNetworks: []string{"10.20.0.0/16", "0.0.0.0/0"}}, nil}, {Config{VaultNetworks: []string{"10.21.0.0/16"}}, nil},
		{Config{VaultNetworks: []string{"10.20.0.0/16"}}, []string{"10.20.0.9:443", "10.20.0.9:80"}},
	} {
		dialled = nil
		f, err := c.cfg.fetcher(record)
		if err != nil {
			t.Fatal(err)
		}
		for _, url := range []string{"https://inside.example/", "http://10.20.0.9/"} {
			_, err := f.Do(t.Context(), hosts, secret.Own([]byte("sk_live_7f3a9c52e1d8b604")), fetch.Request{URL: url})
			if want := map[bool]string{true: "refused", false: "broken"}[c.want == nil]; fetch.Reason(err) != want {
				t.Errorf("%v, %s: %v (%s)", c.cfg.OutboundNetworks, url, err, fetch.Reason(err))
			}
		}
		if !slices.Equal(dialled, c.want) {
			t.Errorf("with %v and %v, %v were dialled", c.cfg.OutboundNetworks, c.cfg.VaultNetworks, dialled)
		}
	}
	s := &Server{cfg: Config{VaultNetworks: []string{"127.0.0.0/8"}}}
	if err := s.openOutbound(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.outbound.Get("http://127.0.0.1:1/"); !errors.Is(err, outbound.ErrRefused) { //nolint:bodyclose // there is none
		t.Errorf("the server's own request: %v", err)
	}
	wrong := Config{VaultNetworks: []string{"inside"}}
	if _, err := wrong.fetcher(outbound.Config{}); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "AVOUCH_VAULT_NETWORKS") {
		t.Error(err)
	}
}
