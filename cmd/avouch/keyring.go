package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/server"
	"github.com/avouch-dev/avouch/tenantdb"
)

// keyringCmd is `avouch keyring`.
type keyringCmd struct {
	Status    keyringStatus    `cmd:"" help:"Show what wraps the keys, how old it is, and what still needs which version."`
	Rotate    keyringRotate    `cmd:"" help:"Make a new version of the platform key in its file, or of an organisation's keys."`
	Rewrap    keyringRewrap    `cmd:"" help:"Wrap all keys under the newest version."`
	NewPepper keyringNewPepper `cmd:"" help:"Make a new version of the pepper of API keys in its file."`
	Revoke    keyringRevoke    `cmd:"" help:"Revoke a key that signs tokens, in an emergency."`
	Renew     keyringRenew     `cmd:"" help:"Replace the secret that an organisation's API keys are digested with."`
	Shred     keyringShred     `cmd:"" help:"End all API keys of an organisation for good, in backups too."`
}

// keyringStatus is `avouch keyring status`.
type keyringStatus struct{}

// Help is the long text.
func (*keyringStatus) Help() string {
	return operatorOnly + " Exit code 1 if something is needed that the environment does not give: keys that cannot be opened, or API keys that cannot be checked; and if a key's file cannot be read. " +
		"A version that nothing needs any more can be taken away; docs/keyring.md says how. What wraps the keys is to be rotated after 90 days."
}

// wrapperView is what wraps keys, as JSON has it.
type wrapperView struct {
	Kind     string     `json:"kind"`
	KeyID    string     `json:"key_id"`
	Version  uint32     `json:"version"`
	Versions []uint32   `json:"versions"`
	Since    *time.Time `json:"since"`
}

func viewWrapper(d keyring.Description) wrapperView {
	v := wrapperView{Kind: d.Kind, KeyID: d.KeyID, Version: d.Version, Versions: d.Versions}
	if !d.Since.IsZero() {
		at := d.Since.UTC()
		v.Since = &at
	}
	return v
}

// needView is what a version is still needed for.
type needView struct {
	KeyID       string `json:"key_id"`
	Version     uint32 `json:"version"`
	Keys        int    `json:"keys"`         // of organisations, in the key store
	SigningKeys int    `json:"signing_keys"` // in the database
	Peppers     int    `json:"peppers"`      // files
	Digests     int64  `json:"digests"`      // of API keys
	Given       bool   `json:"given"`        // by the environment
}

// placeView is where a key that signs tokens is.
type placeView struct {
	KID       string     `json:"kid"`
	Use       string     `json:"use"` // token or session
	Algorithm string     `json:"algorithm"`
	State     string     `json:"state"`             // signs, next, verifies, retired, revoked or unusable
	KMS       string     `json:"kms,omitempty"`     // that holds it
	Key       string     `json:"kms_key,omitempty"` // what it is called there
	SignsFrom time.Time  `json:"signs_from"`
	RetiresAt *time.Time `json:"retires_at"`
	Given     bool       `json:"given"` // what signs with it, by the environment
}

func viewPlaces(all []keyring.Place) []placeView {
	views := make([]placeView, len(all))
	for i, p := range all {
		views[i] = placeView{KID: p.KID, Use: p.Use, Algorithm: p.Algorithm, State: p.State, KMS: p.KMS, Key: p.Key, SignsFrom: p.SignsFrom.UTC(), Given: p.Given}
		if !p.RetiresAt.IsZero() {
			at := p.RetiresAt.UTC()
			views[i].RetiresAt = &at
		}
	}
	return views
}

func showPlaces(p page, all []keyring.Place) error {
	t := table{columns: []column{{name: "signing key"}, {name: "of"}, {name: "algorithm"}, {name: "state"}, {name: "here"}, {name: "where"}}}
	for _, k := range all {
		where := "the database, wrapped"
		if k.KMS != "" {
			where = k.KMS + ": " + k.Key
		}
		here := cell{"yes", good}
		if !k.Given {
			here = cell{"MISSING", bad}
		}
		t.rows = append(t.rows, []cell{{text: k.KID}, {text: k.Use}, {text: k.Algorithm}, {text: k.State}, here, {text: where}})
	}
	fmt.Fprintln(p.to)
	return t.write(p)
}

// Run shows what there is.
func (*keyringStatus) Run(ctx context.Context, g *globals) error {
	return operate(ctx, g, func(s *server.Server) error {
		k, err := s.KeyStatus(ctx)
		if err != nil {
			return refusal(err)
		}
		newest := k.Store[0]
		newest.Since = k.Since
		needs, missing := make([]needView, len(k.Needs)), false
		for i, n := range k.Needs {
			needs[i] = needView{n.KeyID, n.Version, n.Keys, n.SigningKeys, n.Peppers, n.Digests, n.Given}
			missing = missing || !n.Given
		}
		missing = missing || slices.ContainsFunc(k.Places, func(p keyring.Place) bool { return !p.Given })
		if g.JSON {
			others := []wrapperView{}
			for _, d := range k.Store[1:] {
				others = append(others, viewWrapper(d))
			}
			err = encode(g.Out, struct {
				Store   wrapperView   `json:"key_store"`
				Signing wrapperView   `json:"signing"`
				Others  []wrapperView `json:"opens_too"`
				AgeDays *int          `json:"age_days"`
				Due     bool          `json:"rotation_due"`
				Needs   []needView    `json:"needs"`
				Unread  []string      `json:"unread"`
				Strays  []string      `json:"strays"`
				Made    string        `json:"signing_keys_made_in"`
				Keys    []placeView   `json:"signing_keys"`
			}{
				viewWrapper(newest), viewWrapper(k.Signing[0]), others, days(k.Since, g.Now()), k.Due(g.Now()), needs, append([]string{}, k.Unread...), append([]string{}, k.Strays...),
				cmp.Or(k.Held, "local"), viewPlaces(k.Places),
			})
		} else {
			err = showKeys(g, &k, needs)
		}
		if err == nil && (missing || len(k.Unread) > 0) {
			err = &exit{code: exitFalse}
		}
		return err
	})
}

func days(since, now time.Time) *int {
	if since.IsZero() {
		return nil
	}
	d := int(now.Sub(since).Hours() / 24)
	return &d
}

func showKeys(g *globals, k *server.KeyStatus, needs []needView) error {
	p, d := g.page(), k.Store[0]
	age := "nothing is wrapped under it yet: avouch keyring rewrap"
	if n := days(k.Since, g.Now()); n != nil {
		age = "since " + k.Since.UTC().Format(time.DateOnly) + ", " + plural(int64(*n), "day", "days")
		if k.Due(g.Now()) {
			age += p.paint("; rotation is due: avouch keyring rotate --help", warn)
		}
	}
	fmt.Fprintf(p.to, "Organisations' keys are wrapped by %s (%s), version %d: %s.\n", clean(d.KeyID), d.Kind, d.Version, age)
	if last := slices.Max(append([]uint32{d.Version}, d.Versions...)); last > d.Version {
		fmt.Fprintf(p.to, "Version %d is given here and wraps nothing before avouch keyring rewrap.\n", last)
	}
	fmt.Fprintf(p.to, "Keys that sign tokens are wrapped by %s, version %d.\n", clean(k.Signing[0].KeyID), k.Signing[0].Version)
	if k.Held != "" {
		fmt.Fprintf(p.to, "New ones are made in %s, and never leave it.\n", clean(k.Held))
	}
	for _, d := range k.Store[1:] {
		fmt.Fprintf(p.to, "%s (%s) opens what it has wrapped before.\n", clean(d.KeyID), d.Kind)
	}
	t := table{columns: []column{{name: "needed"}, {name: "version", right: true}, {name: "keys", right: true}, {name: "signing keys", right: true}, {name: "peppers", right: true}, {name: "digests", right: true}, {name: "here"}}}
	number := func(n int64) cell { return cell{text: grouped(n)} }
	for _, n := range needs {
		here := cell{"yes", good}
		if !n.Given {
			here = cell{"MISSING", bad}
		}
		t.rows = append(t.rows, []cell{{text: n.KeyID}, number(int64(n.Version)), number(int64(n.Keys)), number(int64(n.SigningKeys)), number(int64(n.Peppers)), number(n.Digests), here})
	}
	fmt.Fprintln(p.to)
	if err := t.write(p); err != nil {
		return err
	}
	for _, one := range k.Unread {
		fmt.Fprintln(p.to, p.paint("What it needs is not known: "+clean(one), bad))
	}
	for _, one := range k.Strays {
		fmt.Fprintln(p.to, "No organisation's, and not looked at: "+clean(one))
	}
	return showPlaces(p, k.Places)
}

// keyringRewrap is `avouch keyring rewrap`.
type keyringRewrap struct {
	operatorName `embed:""`
}

// Help is the long text.
func (*keyringRewrap) Help() string {
	return operatorOnly + " For after a rotation of what wraps the keys, and on the way to a KMS or from it: all servers must run with the new and the old by then. " +
		"Servers go on meanwhile. It may be interrupted, and goes on where it ended when it is called again. A key that does not open stays as it is and is named in the end, with exit code 1. Its beginning and its end are in the platform's log."
}

// Run wraps everything anew.
func (c *keyringRewrap) Run(ctx context.Context, g *globals) error {
	by, err := c.in(g, tenantdb.Platform)
	if err != nil {
		return err
	}
	return operate(ctx, g, func(s *server.Server) error {
		told := time.Time{}
		r, err := s.Rewrap(ctx, by, func(what string, p keyring.Progress) {
			if now := g.Now(); now.Sub(told) >= time.Second {
				told = now
				fmt.Fprintf(g.Err, "%s: %s looked at, %s wrapped anew\n", what, grouped(int64(p.Keys)), grouped(int64(p.Wrapped)))
			}
		})
		for _, one := range r.Strays {
			fmt.Fprintln(g.Err, "No organisation's, and passed over: "+clean(one))
		}
		if failed := keyring.Failures(nil); errors.As(err, &failed) {
			return &exit{exitFalse, fmt.Errorf("what does not open stays as it is and needs what it needed, %s; all others are wrapped by the newest version:\n%w", plural(int64(len(failed)), "key", "keys"), failed)}
		}
		if err != nil {
			return refusal(err)
		}
		return g.done(map[string]any{
			"key_id": r.Under.KeyID, "version": r.Under.Version, "keys": r.Store.Keys, "wrapped": r.Store.Wrapped,
			"signing_keys": r.Signing.Keys, "signing_keys_wrapped": r.Signing.Wrapped, "pepper_wrapped": r.Pepper,
		}, fmt.Sprintf("All %s of organisations and %s that sign tokens are wrapped by the newest version: %s were not before.\nWhat is still needed, for API keys too, says avouch keyring status.",
			plural(int64(r.Store.Keys), "key", "keys"), plural(int64(r.Signing.Keys), "key", "keys"), grouped(int64(r.Store.Wrapped+r.Signing.Wrapped))))
	})
}
