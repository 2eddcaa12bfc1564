package password

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"

	"github.com/avouch-dev/avouch/internal/guessed"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
)

// BreachedConfig says where passwords that others know are looked up, beside the built-in list.
type BreachedConfig struct {
	// URL is an endpoint of the range protocol of Have I Been Pwned, without the prefix. Empty: none is asked.
	URL string `name:"url" env:"AVOUCH_BREACHED_URL" help:"Endpoint of a breached-password list that speaks the range protocol, such as https://api.pwnedpasswords.com/range. It is sent five digits of a password's SHA-1. Off by default."`
	// File is a filter file, made by avouch passwords import. Empty: there is none. It is opened anew for each look-up, so that
	// a new one counts at once.
	File string `env:"AVOUCH_BREACHED_FILE" help:"File of breached passwords, made by avouch passwords import."`
	// Required refuses a password while one of the two that is configured cannot be asked. Otherwise the rest decides.
	Required bool `env:"AVOUCH_BREACHED_REQUIRED" help:"Take no new password while the endpoint or the file cannot be asked. Otherwise the other and the built-in list decide then."`

	Transport http.RoundTripper `kong:"-"` // nil is one of its own
	Log       *slog.Logger      `kong:"-"` // nil tells nobody of failures
}

// Breached is the lists of passwords that others know. The zero value has the built-in one.
type Breached struct {
	cfg    BreachedConfig
	ranges *ranges
	failed atomic.Uint64
}

// OpenBreached checks that the endpoint may be asked and that the file is a filter file.
func OpenBreached(cfg BreachedConfig) (*Breached, error) {
	b := &Breached{cfg: cfg}
	if cfg.Required && cfg.URL == "" && cfg.File == "" {
		return nil, errors.New("password.OpenBreached: a breached list is required, and neither an address nor a file of one is given")
	}
	if cfg.URL != "" {
		var err error
		if b.ranges, err = newRanges(cfg.URL, cfg.Transport); err != nil {
			return nil, fmt.Errorf("password.OpenBreached: %w", err)
		}
	}
	if cfg.File != "" {
		f, err := openFilter(cfg.File)
		if err != nil {
			return nil, fmt.Errorf("password.OpenBreached: %w", err)
		}
		f.Close()
	}
	return b, nil
}

// Failed is how many look-ups could not be made.
func (b *Breached) Failed() uint64 { return b.failed.Load() }

// Known tells whether others know a password: from the built-in list and its rules, the file, and last the endpoint, which is
// sent the first five of the forty digits of its SHA-1.
func (b *Breached) Known(ctx context.Context, plain secret.String) (bool, error) {
	clean, err := normalise(plain)
	if err != nil {
		return false, fmt.Errorf("password.Known: %w", err)
	}
	if guessed.Common(string(clean)) {
		return true, nil
	}
	digest := sha1Of(clean)
	var lacking error
	for _, list := range []struct {
		name string
		look func(context.Context, [20]byte) (bool, error)
	}{{"file", b.inFile}, {"endpoint", b.atEndpoint}} {
		known, err := list.look(ctx, digest)
		switch {
		case errors.Is(err, errNoList):
		case err != nil && ctx.Err() != nil:
			return false, fmt.Errorf("password.Known: %w", ctx.Err())
		case err != nil:
			lacking = errors.Join(lacking, err)
			b.failed.Add(1)
			if b.cfg.Log != nil {
				b.cfg.Log.WarnContext(ctx, "a list of breached passwords could not be asked", "list", list.name, "error", err)
			}
		case known:
			return true, nil
		}
	}
	if b.cfg.Required && lacking != nil {
		e := problem.New(problem.Unavailable, "Whether this password is known to others cannot be told now, so it was not taken. Try again in a minute.")
		e.RetryAfter = comeBack
		return false, fmt.Errorf("password.Known: %w", e.Because(lacking))
	}
	return false, nil
}

// errNoList means that none is configured.
var errNoList = errors.New("no list")

func (b *Breached) inFile(_ context.Context, digest [20]byte) (bool, error) {
	if b.cfg.File == "" {
		return false, errNoList
	}
	f, err := openFilter(b.cfg.File)
	if err != nil {
		return false, err
	}
	defer f.Close()
	return f.has(digest)
}

func (b *Breached) atEndpoint(ctx context.Context, digest [20]byte) (bool, error) {
	if b.ranges == nil {
		return false, errNoList
	}
	return b.ranges.has(ctx, digest)
}
