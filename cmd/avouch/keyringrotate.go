package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/server"
	"github.com/avouch-dev/avouch/tenantdb"
)

// keyringRotate is `avouch keyring rotate`.
type keyringRotate struct {
	operatorName `embed:""`
	Organisation *string `placeholder:"TENANT-ID" help:"Rotate the keys of this organisation, or all, instead of the platform key."`
}

// Help is the long text.
func (*keyringRotate) Help() string {
	return operatorOnly + " Without --organisation: adds a version to the platform key's file, which must be named by AVOUCH_PLATFORM_KEY_FILE. Nothing uses it before the servers are restarted with the file; " +
		"then avouch keyring rewrap wraps all keys under it. A key in a KMS is rotated there, by its own means, and avouch keyring rewrap follows too: docs/keyring.md has the steps.\n\n" +
		"With --organisation: makes new keys of an organisation and wraps everything under them, while everything runs; servers do the same by themselves when a key is AVOUCH_KEY_ROTATION days old. " +
		"If it is interrupted, the servers go on, or the same command does. The keys before are destroyed when nothing has needed them for AVOUCH_OLD_KEYS_KEPT days, so that backups can be restored until then.\n\n" +
		"    avouch keyring rotate --organisation all --json"
}

// Run rotates.
func (c *keyringRotate) Run(ctx context.Context, g *globals) error {
	if c.Organisation != nil { // an empty one is a script's variable that is not set, and does not mean another key
		return c.organisations(ctx, g, *c.Organisation)
	}
	by, err := c.in(g, tenantdb.Platform)
	if err != nil {
		return err
	}
	cfg, err := environment()
	switch {
	case err != nil:
		return err
	case !cfg.KMS.Local() && !cfg.KMS.Leaving:
		return misused("the keys are wrapped by AVOUCH_KMS=%s: rotate %s there, and then run avouch keyring rewrap", cfg.KMS.Kind, cfg.KMS.Key)
	case !cfg.PlatformKey.IsZero():
		return lacks("AVOUCH_PLATFORM_KEY comes before a file, and cannot be changed from here: put its text into a file of mode 0600, and name that by AVOUCH_PLATFORM_KEY_FILE instead")
	}
	return operate(ctx, g, func(s *server.Server) error {
		if _, err := s.DB.Record(ctx, by, audit.Event{Type: "platform_key.rotated", Target: audit.Target{Kind: "platform_key", ID: "platform/" + keyring.ForKeyStore}}); err != nil {
			return refusal(err)
		}
		version, err := keyring.AddPlatformKey(ctx, cfg.PlatformKeyFile)
		if err != nil {
			return lacks("the platform key's file cannot be changed: %w", err)
		}
		return g.done(map[string]any{"file": cfg.PlatformKeyFile, "version": version},
			fmt.Sprintf("%s has version %d now. Give the file to every server and restart each; then run avouch keyring rewrap.", cfg.PlatformKeyFile, version))
	})
}

// keyringNewPepper is `avouch keyring new-pepper`.
type keyringNewPepper struct{}

// Help is the long text.
func (*keyringNewPepper) Help() string {
	return "For the operator. Adds a version to the file that AVOUCH_API_KEY_PEPPER_FILE names, or makes it. With AVOUCH_KMS, the file holds it wrapped by the KMS, " +
		"so that it is of no use without. It needs no database: it is how an installation begins that has a KMS and no platform key. Give the file to every server and restart each; " +
		"then run avouch keyring rewrap: API keys are digested with the new version from their next use on, and avouch keyring status says how many still need an older one."
}

// Run makes a new version.
func (*keyringNewPepper) Run(ctx context.Context, g *globals) error {
	cfg, err := environment()
	switch {
	case err != nil:
		return err
	case cfg.PepperFile == "":
		return lacks("AVOUCH_API_KEY_PEPPER_FILE is not set: it names the file")
	case !cfg.Pepper.IsZero():
		return lacks("AVOUCH_API_KEY_PEPPER comes before a file, and cannot be changed from here")
	}
	if err := keyring.DenyDump(); err != nil {
		return lacks("the process cannot be protected from being dumped: %w", err)
	}
	at := cfg.Keys()
	var wrapper keyring.KeyWrapper
	wrap := !cfg.KMS.Local() && !cfg.KMS.Leaving
	if wrap || cfg.KMS.Leaving || cfg.PlatformKeyFile != "" || !cfg.PlatformKey.IsZero() {
		w, err := at.Wrappers(ctx)
		if err != nil {
			return lacks("%w", err)
		}
		wrapper = w.Store
	}
	version, err := keyring.AddPepper(ctx, wrapper, wrap, cfg.PepperFile)
	if err != nil {
		return lacks("the pepper cannot be made: %w", err)
	}
	return g.done(map[string]any{"file": cfg.PepperFile, "version": version, "wrapped": wrap},
		cfg.PepperFile+" has version "+strconv.FormatUint(uint64(version), 10)+" now. Give the file to every server and restart each; then run avouch keyring rewrap.")
}
