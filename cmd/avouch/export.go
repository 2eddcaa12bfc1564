package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/client"
)

type auditExport struct {
	remote       `embed:""`
	keys         `embed:""`
	operatorName `embed:""`
	Dir          string `arg:"" help:"The directory to write: a new one, or an empty one."`
	Tenant       string `placeholder:"ID" help:"Whose log. With AVOUCH_DATABASE_URL any organisation's; through the server it must be your own."`
	Disclose     bool   `help:"Open private fields, so that the export may hold personal data. From the database only, behind a broken glass: avouch break-glass open."`
	PublicURL    string `placeholder:"URL" env:"AVOUCH_PUBLIC_URL" help:"Where the installation is reached from outside. From the database only."`
}

// Help is shown under the usage.
func (*auditExport) Help() string {
	return `Writes a C2SP tlog-tiles directory: checkpoint, tile/, log.vkey, and the records one a line in records.ndjson. It is checked before the command ends well, and avouch audit check does so again anywhere.

Through the server, with a key that may read the log:

    avouch audit export log-2026-11

As the operator, from the database:

    AVOUCH_DATABASE_URL=... AVOUCH_KEY_STORE=... AVOUCH_PLATFORM_KEY_FILE=... AVOUCH_PUBLIC_URL=... avouch audit export --tenant 0192f0c1-3333-7aaa-8bbb-123456789abc log-2026-11`
}

// Run exports a log.
func (c *auditExport) Run(ctx context.Context, g *globals) error {
	at := g.Getenv("AVOUCH_DATABASE_URL")
	operator := c.Tenant != "" && at != ""
	if c.Disclose && !operator {
		return misused("--disclose works on the database: give --tenant, and set AVOUCH_DATABASE_URL")
	}
	var server *client.Client
	if !operator {
		var err error
		if server, err = c.client(g); err != nil {
			return err
		}
		if err := c.own(ctx, server); err != nil {
			return err
		}
	}
	root, remove, err := emptyDir(c.Dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if operator {
		err = c.exportDatabase(ctx, g, at, audit.Into(root))
	} else {
		err = c.download(ctx, server, root)
	}
	if err != nil {
		remove()
		return err
	}
	return c.check(g)
}

// own refuses to export another organisation's log than the one that was asked for.
func (c *auditExport) own(ctx context.Context, server *client.Client) error {
	if c.Tenant == "" {
		return nil
	}
	answer, err := server.Do(ctx, client.Call{Path: api("organisation")})
	if err != nil {
		return err
	}
	var o orgView
	if err := answer.Into(&o); err != nil {
		return err
	}
	if o.TenantID != c.Tenant {
		return misused("the key belongs to %s (%s), not to the organisation of --tenant. Use a key of that one, or set AVOUCH_DATABASE_URL as the operator", o.Name, o.TenantID)
	}
	return nil
}

// emptyDir makes a directory or takes an empty one. remove takes away what was put there since.
func emptyDir(dir string) (root *os.Root, remove func(), err error) {
	err = os.Mkdir(dir, 0o700)
	made := err == nil
	if err != nil && !errors.Is(err, os.ErrExist) {
		return nil, nil, lacks("the directory cannot be made: %w", err)
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, lacks("the directory cannot be read: %w", err)
	}
	if len(names) > 0 {
		return nil, nil, misused("%s is not empty: name a new directory", dir)
	}
	if root, err = os.OpenRoot(dir); err != nil {
		return nil, nil, lacks("the directory cannot be opened: %w", err)
	}
	return root, func() {
		names, _ := os.ReadDir(dir) // what stays behind has no checkpoint, and so passes no check
		for _, name := range names {
			_ = root.RemoveAll(name.Name())
		}
		if made {
			_ = os.Remove(dir)
		}
	}, nil
}

func (c *auditExport) download(ctx context.Context, server *client.Client, root *os.Root) error {
	body, err := server.Download(ctx, client.Call{Path: api("audit", "export")}, "application/gzip, application/problem+json")
	if err != nil {
		return err
	}
	defer body.Close()
	const most = 1 << 40 // the caller's own server is trusted with the caller's own disk
	err = unpack(body, root, most)
	var local *exit
	if err != nil && !errors.As(err, &local) {
		return &client.Unreachable{Host: server.Host(), Cause: err}
	}
	return err
}

// check makes sure that what was written is an export that holds.
func (c *auditExport) check(g *globals) error {
	report, err := audit.CheckDir(c.Dir, audit.Known{})
	var fault *audit.Fault
	if errors.As(err, &fault) {
		return &exit{exitFalse, fmt.Errorf("the export was written, and does not hold: %w", err)}
	}
	if err != nil {
		return lacks("the export was written, and cannot be checked: %w", err)
	}
	if g.JSON {
		return encode(g.Out, report)
	}
	_, err = fmt.Fprintf(g.Out, "%s written to %s, and checked.\n", plural(report.Size, "entry", "entries"), c.Dir)
	return err
}

type auditProve struct {
	Export string `arg:"" help:"The directory that audit export wrote."`
	Seq    int64  `arg:"" help:"The entry's number."`
	Out    string `short:"o" placeholder:"FILE" help:"Where to write the proof; standard output if left out."`
}

// Help is shown under the usage.
func (*auditProve) Help() string {
	return `A proof (C2SP tlog-proof) shows one entry to whoever has the log's key, and nothing of the others.

    avouch audit prove log-2026-11 41 -o entry-41.proof
    avouch audit check entry-41.proof --log-key log-2026-11/log.vkey`
}

// Run makes a proof.
func (c *auditProve) Run(_ context.Context, g *globals) error {
	if info, err := os.Stat(c.Export); err != nil || !info.IsDir() {
		return lacks("%s is not the directory of an export", c.Export)
	}
	if c.Seq < 0 {
		return misused("entries are numbered from 0")
	}
	proof, err := audit.Prove(os.DirFS(c.Export), audit.Seq(c.Seq))
	if err != nil {
		return &exit{exitFalse, fmt.Errorf("the entry cannot be proved: %w", err)}
	}
	if c.Out == "" {
		_, err = g.Out.Write(proof)
		return err
	}
	file, err := os.OpenFile(c.Out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return lacks("the proof cannot be written: %w", err)
	}
	_, err = file.Write(proof)
	if e := file.Close(); err == nil {
		err = e
	}
	if err != nil {
		return lacks("the proof cannot be written: %w", err)
	}
	return nil
}
