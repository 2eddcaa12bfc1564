package sso

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/sync/singleflight"
)

// provider is what discovery found of a connection's provider.
type provider struct {
	oidc     *oidc.Provider
	keys     oidc.KeySet
	extra    metadata
	endpoint oauth2.Endpoint
	algs     []string
	at       time.Time
	err      error // why there is none; kept for a moment, lest everybody waits for a provider that is down
}

// metadata is what go-oidc does not read of the discovery document.
type metadata struct {
	JWKS       string   `json:"jwks_uri"`
	Algorithms []string `json:"id_token_signing_alg_values_supported"`
	Auth       []string `json:"token_endpoint_auth_methods_supported"`
	Issuers    bool     `json:"authorization_response_iss_parameter_supported"` // RFC 9207
}

// Asymmetric algorithms only: a client secret is no key that only the provider has, and none is no signature.
var believed = []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA}

const (
	discoveryLife = time.Hour // also for how long a key that the provider has taken back may count
	failureLife   = 5 * time.Second
	maxProviders  = 1000
)

type providerName struct {
	connection ID
	version    int64
}

// providers remembers what discovery found.
type providers struct {
	mu    *sync.Mutex
	found map[providerName]*provider
	once  *singleflight.Group
}

func newProviders() providers {
	return providers{&sync.Mutex{}, map[providerName]*provider{}, &singleflight.Group{}}
}

func (p *providers) get(name providerName, now time.Time) *provider {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.found[name]
	if f == nil || f.err == nil && now.Sub(f.at) >= discoveryLife || f.err != nil && now.Sub(f.at) >= failureLife {
		return nil
	}
	return f
}

func (p *providers) put(name providerName, f *provider) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.found) >= maxProviders {
		clear(p.found)
	}
	p.found[name] = f
}

func (p *providers) forget(name providerName) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.found, name)
}

// discover finds a connection's provider, or remembers it.
func (r *Room) discover(ctx context.Context, n Connection) (*provider, error) {
	name := providerName{n.ID, n.Version}
	if f := r.providers.get(name, r.cfg.Now()); f != nil {
		return f, f.err
	}
	done := r.providers.once.DoChan(fmt.Sprint(name), func() (any, error) {
		f := r.askProvider(context.WithoutCancel(ctx), n.Settings.OIDC) // others wait for it too; the client bounds it
		f.at = r.cfg.Now()
		r.providers.put(name, f)
		return f, nil
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case got := <-done:
		f := got.Val.(*provider)
		return f, f.err
	}
}

func (r *Room) askProvider(ctx context.Context, o *OIDC) *provider {
	ctx = oidc.ClientContext(ctx, r.cfg.Client)
	found, err := oidc.NewProvider(ctx, o.Issuer)
	if err != nil {
		return &provider{err: err}
	}
	f := &provider{oidc: found, endpoint: found.Endpoint()}
	if err := found.Claims(&f.extra); err != nil {
		return &provider{err: err}
	}
	f.algs = []string{oidc.RS256} // the one that all must have, for those that say nothing
	if len(f.extra.Algorithms) > 0 {
		f.algs = slices.DeleteFunc(slices.Clone(f.extra.Algorithms), func(a string) bool { return !slices.Contains(believed, a) })
	}
	if len(f.algs) == 0 {
		return &provider{err: errors.New("the provider signs with no algorithm that is believed")}
	}
	issuer, err := url.Parse(o.Issuer)
	if err != nil {
		return &provider{err: err}
	}
	for _, address := range []string{f.endpoint.AuthURL, f.endpoint.TokenURL, f.extra.JWKS} {
		u, err := url.Parse(address)
		if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != issuer.Scheme {
			return &provider{err: errors.New("an endpoint of the provider is no https address")}
		}
	}
	f.endpoint.AuthStyle = oauth2.AuthStyleInHeader // what counts where nothing is said
	if o.ClientSecret == "" || len(f.extra.Auth) > 0 && !slices.Contains(f.extra.Auth, "client_secret_basic") {
		f.endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	// The keys are fetched again when a token names one that is not known: providers rotate them when they like.
	f.keys = oidc.NewRemoteKeySet(ctx, f.extra.JWKS)
	return f
}
