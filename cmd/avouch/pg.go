package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/postgres"
)

// pgCmd is the commands about API keys in somebody's own PostgreSQL.
type pgCmd struct {
	Install   pgInstall   `cmd:"" help:"Install the schema avouch_keys, or bring it up to this release."`
	Check     pgCheck     `cmd:"" help:"Check the log of avouch_keys, trusting no function of the database."`
	Uninstall pgUninstall `cmd:"" help:"Take avouch_keys away, with all keys and its log."`
}

// ownDatabase is the database that a command of pg is about.
type ownDatabase struct {
	DSN secret.String `name:"dsn" placeholder:"DSN" env:"AVOUCH_PG_DSN" help:"The database, as an address or as words: postgres://owner@host/db, or host=... dbname=... A password in an argument is for all to see on this machine: set the variable instead, or use a password file."`
}

func (o *ownDatabase) dsn() (string, error) {
	if o.DSN.IsZero() {
		return "", lacks("there is no database: set AVOUCH_PG_DSN, or give --dsn if it holds no password")
	}
	return o.DSN.Expose(), nil
}

// notices shows what PostgreSQL has to say beside its answer.
func (g *globals) notices() func(string) {
	return func(n string) { fmt.Fprintf(g.Err, "PostgreSQL: %s\n", redact(clean(n))) }
}

// pgInstall is `avouch pg install`.
type pgInstall struct {
	ownDatabase `embed:""`
	KeyHippo    bool `name:"keyhippo" help:"KeyHippo 1.2's names too, on these keys."`
}

// Help is the long text.
func (*pgInstall) Help() string {
	return `Runs one transaction, as a role that may create roles and schemas: the database's owner with CREATEROLE is enough. A second run keeps keys, settings and the log; a superuser is refused one while other roles may become avouch_keys_owner, for those can change what he would run.

    AVOUCH_PG_DSN='postgres://postgres@db.example/app' avouch pg install`
}

// Run is the command.
func (c *pgInstall) Run(ctx context.Context, g *globals) error {
	dsn, err := c.dsn()
	if err != nil {
		return err
	}
	if err := postgres.Install(ctx, dsn, postgres.Options{KeyHippo: c.KeyHippo, Notice: g.notices()}); err != nil {
		return lacks("%w", plainPG(err))
	}
	if g.JSON {
		return encode(g.Out, map[string]any{"schema": "avouch_keys", "version": postgres.Version, "keyhippo": c.KeyHippo})
	}
	_, err = fmt.Fprintf(g.Out, "avouch_keys is installed, version %d. Keep what avouch pg check prints where the database's owner cannot reach it.\n", postgres.Version)
	return err
}

// pgUninstall is `avouch pg uninstall`.
type pgUninstall struct {
	ownDatabase `embed:""`
	DropLog     bool `help:"Yes, the log too. Without this, nothing is done."`
}

// Help is the long text.
func (*pgUninstall) Help() string {
	return `Leaves nothing behind. Stops if a policy, view, type or anything else of yours is built on avouch_keys, and names it.`
}

// Run is the command.
func (c *pgUninstall) Run(ctx context.Context, g *globals) error {
	dsn, err := c.dsn()
	if err != nil {
		return err
	}
	if !c.DropLog {
		r, err := postgres.Check(ctx, dsn, postgres.Known{})
		if err != nil {
			return lacks("%w", plainPG(err))
		}
		return misused("all keys end, and the log of %s goes (its last hash is %s): keep a copy if you may need it, then say --drop-log",
			plural(r.Size, "entry", "entries"), r.Hash)
	}
	if err := postgres.Uninstall(ctx, dsn, true, g.notices()); err != nil {
		return lacks("%w", plainPG(err))
	}
	return g.done(map[string]string{"schema": "avouch_keys", "status": "uninstalled"}, "avouch_keys is gone.")
}

// pgCheck is `avouch pg check`.
type pgCheck struct {
	ownDatabase `embed:""`
	Size        int64  `placeholder:"N" help:"How many entries an earlier check found."`
	Hash        string `placeholder:"HEX" help:"Its hash: what was rewritten since then is found by it."`
}

// Help is the long text.
func (*pgCheck) Help() string {
	return `Exit code 1 says that the log is not as it was written. It finds every change that does not write the rest of the chain anew; with the size and the hash of an earlier check, kept elsewhere, it finds those too. It takes the primary, not a standby.

    avouch pg check --json > elsewhere.json
    avouch pg check --size 1042 --hash 5e88...`
}

func (c *pgCheck) known() (postgres.Known, error) {
	known := postgres.Known{Size: c.Size}
	if (c.Size > 0) != (c.Hash != "") || c.Size < 0 {
		return known, misused("--size and --hash belong together: both are of one earlier check")
	}
	b, err := hex.DecodeString(c.Hash)
	if c.Hash != "" && (err != nil || len(b) != len(known.Hash)) {
		return known, misused("--hash is no hash: %d hexadecimal digits", 2*len(known.Hash))
	}
	copy(known.Hash[:], b)
	return known, nil
}

// Run is the command.
func (c *pgCheck) Run(ctx context.Context, g *globals) error {
	known, err := c.known()
	if err != nil {
		return err
	}
	dsn, err := c.dsn()
	if err != nil {
		return err
	}
	r, err := postgres.Check(ctx, dsn, known)
	if err != nil {
		return lacks("%w", plainPG(err))
	}
	if g.JSON {
		err = encode(g.Out, r)
	} else {
		err = c.words(g.page(), &r)
	}
	if err == nil && r.Fault != nil {
		return &exit{code: exitFalse}
	}
	return err
}

func (c *pgCheck) words(p page, r *postgres.Report) error {
	verdict, says := p.paint("holds ", good), plural(r.Size, "entry", "entries")
	if r.Fault != nil {
		verdict, says = p.paint("BROKEN", bad), fmt.Sprintf("entry %d %s; %s good", r.Fault.Seq, r.Fault.Reason, strings.ToLower(before(r.Fault.Seq)))
	}
	if _, err := fmt.Fprintf(p.to, "%s  %s\n", verdict, says); err != nil {
		return err
	}
	return writeDetails(p, "  ", []detail{{"installation", cell{text: r.Installation}}, {"size", cell{text: fmt.Sprint(r.Size)}}, {"hash", cell{text: r.Hash}}})
}
