package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/avouch-dev/avouch/incident"
	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/internal/sms"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/server"
	"github.com/avouch-dev/avouch/signin/password"
	"github.com/avouch-dev/avouch/tenantdb"
)

// doctorCmd is `avouch doctor`.
type doctorCmd struct {
	DatabaseURL      secret.String `env:"AVOUCH_DATABASE_URL" hidden:"" help:"The database, as a server connects to it. Environment only."`
	AdminDatabaseURL secret.String `env:"AVOUCH_ADMIN_DATABASE_URL" hidden:"" help:"The same as its owner, to look at the disk that it lies on. Environment only; may be left out."`
	PlatformKeyFile  string        `env:"AVOUCH_PLATFORM_KEY_FILE" help:"File with the platform key."`
	KeyStore         string        `env:"AVOUCH_KEY_STORE" help:"Directory of the organisations' keys."`
	OperatorEmail    string        `env:"AVOUCH_OPERATOR_EMAIL" help:"Where incidents of the installation itself are mailed."`
	Mail             mail.Config   `embed:"" prefix:"mail-"`
	SMS              sms.Config    `embed:"" prefix:"sms-"`
	RegionsFile      string        `env:"AVOUCH_REGIONS_FILE" help:"File with the regions and their senders."`

	Breached password.BreachedConfig `embed:"" prefix:"breached-"`
}

// Help is the long text.
func (*doctorCmd) Help() string {
	return "Looks at what a server needs and says how to mend what is wrong: the role's rights, the schema, durability, the log's partitions, " +
		"clocks, old snapshots, open incidents of the installation and who is told of them, the mail that people need, the regions, the lists of breached passwords, the keys, and room on the disks. It changes nothing and sends nothing. Exit code 1 if something is wrong."
}

// diagnosis is what one examination found.
type diagnosis struct {
	What   string `json:"what"`
	Well   bool   `json:"well"`
	Detail string `json:"detail"`
	Advice bool   `json:"advice,omitempty"` // it works, and should be better
}

// Run examines everything that the environment names.
func (c *doctorCmd) Run(ctx context.Context, g *globals) error {
	if c.DatabaseURL.IsZero() {
		return lacks("AVOUCH_DATABASE_URL is not set: it names the database, as the role avouch_server")
	}
	found := c.database(ctx)
	if c.PlatformKeyFile != "" {
		_, err := keyring.LoadPlatform(secret.String{}, c.PlatformKeyFile)
		found = append(found, verdict("platform key", err, "readable by its owner alone"))
	}
	found = append(found, c.wraps(ctx, g.Now())...)
	found = append(found, c.people()...)
	if c.KeyStore != "" {
		found = append(found, disk("disk of the key store", c.KeyStore))
	}
	well := true
	for _, f := range found {
		well = well && f.Well
		if err := tell(g.Out, f, g.JSON); err != nil {
			return err
		}
	}
	if !well {
		return &exit{code: exitFalse}
	}
	return nil
}

// wraps looks at what wraps the keys: whether it answers, fits the key store, and is not too old. That it is old keeps nothing from working.
func (c *doctorCmd) wraps(ctx context.Context, now time.Time) []diagnosis {
	const what = "what wraps the keys"
	cfg, err := environment()
	if err != nil {
		return []diagnosis{verdict(what, err, "")}
	}
	keys := cfg.Keys()
	keys.PlatformKeyFile, keys.KeyStore = c.PlatformKeyFile, c.KeyStore
	if keys.KMS.Local() && keys.PlatformKeyFile == "" && keys.PlatformKey.IsZero() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	d, since, err := keys.Examine(ctx)
	found := verdict(what, err, fmt.Sprintf("version %d of %s", d.Version, d.KeyID))
	if err == nil && !since.IsZero() && now.Sub(since) >= server.RotateAfter {
		found.Advice, found.Detail = true, found.Detail+fmt.Sprintf(" is %d days old: rotate it every 90, as docs/keyring.md says", int(now.Sub(since).Hours()/24))
	}
	return []diagnosis{found}
}

func tell(out io.Writer, f diagnosis, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(out).Encode(f)
	}
	sign := "well "
	switch {
	case !f.Well:
		sign = "WRONG"
	case f.Advice:
		sign = "note "
	}
	_, err := fmt.Fprintf(out, "%s  %-24s %s\n", sign, f.What, clean(plainly(f.Detail)))
	return err
}

func verdict(what string, err error, well string) diagnosis {
	if err != nil {
		return diagnosis{What: what, Detail: err.Error()}
	}
	return diagnosis{What: what, Well: true, Detail: well}
}

func (c *doctorCmd) database(ctx context.Context) []diagnosis {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	db, err := tenantdb.Open(ctx, tenantdb.Config{URL: c.DatabaseURL.Expose(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		what := "database"
		switch {
		case errors.Is(err, tenantdb.ErrTooPowerful):
			what = "role"
		case errors.Is(err, tenantdb.ErrSchema):
			what = "schema"
		}
		return []diagnosis{{What: what, Detail: err.Error()}}
	}
	defer db.Close()
	found := []diagnosis{{What: "role", Well: true, Detail: "has what a server needs and no more"}, {What: "schema", Well: true, Detail: "fits this release"}}
	h, err := db.Examine(ctx)
	if err != nil {
		return append(found, diagnosis{What: "database", Detail: err.Error()})
	}
	return slices.Concat(found, judge(h), incidents(ctx, db), c.told(), c.room(ctx))
}

// judge holds what the database says of itself against what Avouch needs.
func judge(h tenantdb.Health) []diagnosis {
	well := func(what string, ok bool, yes, no string) diagnosis {
		if ok {
			return diagnosis{What: what, Well: true, Detail: yes}
		}
		return diagnosis{What: what, Detail: no}
	}
	return []diagnosis{
		well("durability", h.Durable, "PostgreSQL "+h.Version+", fsync, full_page_writes and synchronous_commit are on",
			"fsync, full_page_writes or synchronous_commit is off: what is acknowledged can be lost. Turn them on."),
		well("partitions", h.MonthsAhead >= 2, fmt.Sprintf("the log has its partitions for %d months to come", h.MonthsAhead),
			fmt.Sprintf("the log has partitions for %d months to come only; a server makes them at start and every six hours: is one running?", h.MonthsAhead)),
		well("default partition", !h.InDefault, "empty", "entries lie in it: a month's partition was missing. Move them with the owner's help before that month is made."),
		well("clock", h.Skew.Abs() <= tenantdb.MostSkew, fmt.Sprintf("%s from the database's", h.Skew.Abs().Round(time.Millisecond)),
			fmt.Sprintf("%s from the database's; servers refuse to be ready above 500ms. Run an NTP client on both.", h.Skew.Round(time.Millisecond))),
		well("snapshots", h.OldSnapshot < time.Minute, fmt.Sprintf("the oldest is %s old", h.OldSnapshot.Round(time.Second)),
			fmt.Sprintf("one is %s old: a long transaction keeps old versions of the log's heads and slows every append. Find it in pg_stat_activity.", h.OldSnapshot.Round(time.Second))),
	}
}

// incidents are those of the installation that are open.
func incidents(ctx context.Context, db *tenantdb.DB) (found []diagnosis) {
	open, err := incident.New(incident.Config{DB: db}).Open(ctx, tenantdb.System(tenantdb.Platform, "doctor"))
	if err != nil {
		return []diagnosis{{What: "incidents", Detail: err.Error()}}
	}
	for _, in := range open {
		about := ""
		if in.Subject != "" {
			about = " of " + in.Subject
		}
		found = append(found, diagnosis{What: "incident", Detail: fmt.Sprintf("%s%s since %s: %s Its id is %s; `avouch incidents resolve` closes it when it has been dealt with.",
			in.Kind, about, in.Opened.UTC().Format(time.RFC3339), in.Detail, in.ID)})
	}
	if len(found) == 0 {
		found = []diagnosis{{What: "incidents", Well: true, Detail: "the installation has none that is open"}}
	}
	return found
}

// told says who hears of the installation's incidents. That nobody does keeps no server from working.
func (c *doctorCmd) told() []diagnosis {
	says := diagnosis{What: "operator", Well: true, Detail: "incidents of the installation are mailed to AVOUCH_OPERATOR_EMAIL"}
	if why := (&server.Config{OperatorEmail: c.OperatorEmail, Mail: c.Mail}).Unheard(); why != "" {
		says.Advice, says.Detail = true, why+": incidents of the installation are mailed to nobody, and stand in the servers' logs only"
	}
	return []diagnosis{says}
}

// room looks at the disk under the database, if it is this machine's and an administrator's URL says where it is. If not,
// it says so: that disk is the one whose filling stops everything.
func (c *doctorCmd) room(ctx context.Context) []diagnosis {
	const what = "disk of the database"
	unseen := func(why string) []diagnosis {
		return []diagnosis{{What: what, Well: true, Advice: true, Detail: "not visible from here: " + why + ". When it is full, everything is denied: watch it where it is"}}
	}
	if c.AdminDatabaseURL.IsZero() {
		return unseen("only the database's owner may ask where it lies, and AVOUCH_ADMIN_DATABASE_URL is not set")
	}
	if !sameMachine(c.AdminDatabaseURL.Expose()) {
		return unseen("PostgreSQL is reached over the network")
	}
	dir, err := tenantdb.DataDirectory(ctx, c.AdminDatabaseURL.Expose())
	switch {
	case unreached(err):
		return []diagnosis{{What: what, Detail: "AVOUCH_ADMIN_DATABASE_URL: " + err.Error()}}
	case mayNotSee(err):
		return unseen("the role of AVOUCH_ADMIN_DATABASE_URL may not ask where the database lies")
	case errors.Is(err, fs.ErrPermission), errors.Is(err, fs.ErrNotExist), err == nil && !holdsCluster(dir):
		return unseen("its directory is not on this machine, or closed to this user")
	case err != nil:
		return []diagnosis{{What: what, Detail: err.Error()}}
	}
	return []diagnosis{disk(what, dir)}
}

// holdsCluster tells a directory of PostgreSQL's from one that only has the same path: PostgreSQL may see other disks than
// this process, as it does in a container.
func holdsCluster(dir string) bool {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return false
	}
	_, err := os.Stat(filepath.Join(dir, "PG_VERSION"))
	return err == nil || errors.Is(err, fs.ErrPermission) // its owner alone may enter it
}

// leastRoom is how much must be free: a full disk denies everything.
const leastRoom = 2 << 30

func disk(what, dir string) diagnosis {
	var s syscall.Statfs_t
	for syscall.Statfs(dir, &s) != nil {
		parent := filepath.Dir(dir)
		if parent == dir {
			return diagnosis{What: what, Detail: "it is not on this machine, or cannot be entered"}
		}
		dir = parent
	}
	free := int64(s.Bavail) * s.Bsize
	if free < leastRoom {
		return diagnosis{What: what, Detail: fmt.Sprintf("%.1f GiB free: when it is full, everything is denied", float64(free)/(1<<30))}
	}
	return diagnosis{What: what, Well: true, Detail: fmt.Sprintf("%.0f GiB free", float64(free)/(1<<30))}
}
