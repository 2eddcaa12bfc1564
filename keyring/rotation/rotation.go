package rotation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Config is what the room needs.
type Config struct {
	DB   *tenantdb.DB
	Ring *keyring.Ring
	// Columns are all in which rooms keep what Ring.Seal made.
	Columns []keyring.SealedColumn
	// Beside wraps anew what is sealed under the installation's own key in rows of others, and says what was not under the newest; nil
	// if there is no such thing.
	Beside func(ctx context.Context) ([]keyring.Rewrapped, error)
	// Raise opens an incident.
	Raise func(ctx context.Context, c tenantdb.Caller, kind, subject, detail string) (opened bool, err error)
	// Every is how old an organisation's key gets; 0 rotates none but by hand.
	Every time.Duration
	// Kept is how long the version before is kept once nothing needs it: as long as a backup may be restored; 0 is DefaultKept.
	Kept time.Duration
	Log  *slog.Logger
	Now  func() time.Time // nil is time.Now
	// Chunk is how many values are wrapped anew in one commit; 0 is 500.
	Chunk int
	// Lease is how long a worker that says nothing is waited for; 0 is five minutes.
	Lease time.Duration

	at func(point string) // of tests
}

const (
	// DefaultEvery is how old an organisation's key gets, unless the installation says otherwise.
	DefaultEvery = 90 * 24 * time.Hour
	// DefaultKept is how long the version before is kept, unless the installation says otherwise.
	DefaultKept = 35 * 24 * time.Hour
	// LeastKept is longer than anything lives that carries a sealed value elsewhere than in a column.
	LeastKept = 24 * time.Hour
)

const (
	// settling is when a look can be the last: other servers take the version before for the newest for 30 seconds, and write a while
	// later what they sealed under it.
	settling = 2 * time.Minute
	// lingering is when what was sealed and carried elsewhere has come home: a sign-in under way has the hash of a new password for
	// a quarter of an hour.
	lingering = time.Hour
	// again is how long what does not open is left alone.
	again = time.Hour
	// remembered is how long runs are that have ended.
	remembered = 2 * 365 * 24 * time.Hour
)

// Room rotates the keys of organisations.
type Room struct{ cfg Config }

// New makes the room.
func New(cfg Config) *Room {
	if cfg.Kept == 0 {
		cfg.Kept = DefaultKept
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Chunk == 0 {
		cfg.Chunk = 500
	}
	if cfg.Lease == 0 {
		cfg.Lease = 5 * time.Minute
	}
	if cfg.at == nil {
		cfg.at = func(string) {}
	}
	return &Room{cfg}
}

// instant is now, as the database will give it back.
func (r *Room) instant() time.Time { return r.cfg.Now().UTC().Truncate(time.Microsecond) }

// Run is one rotation of an organisation's keys.
type Run struct {
	ID                 ID
	Wrap, Subjects     uint32 // the versions that it makes; in the end, those before are destroyed
	AskedBy            string
	BegunAt, MadeAt    time.Time
	CleanAt            time.Time // since when nothing is under an older version; zero while something may be
	DueAt              time.Time // when it is gone on with
	FinishedAt         time.Time
	Rows, Keys, Failed int64 // values and subjects' keys that were wrapped anew; those that the present look, or the last, could not

	place            string   // the column that is being gone over; "" between two looks
	after            []string // the last key there
	found            int64    // by this look, under an older version
	passAt, lookedAt time.Time
	endingAt         time.Time
}

// State says how far a run is.
func (n Run) State() string {
	switch {
	case !n.FinishedAt.IsZero():
		return "finished"
	case !n.endingAt.IsZero():
		return "destroying"
	case !n.CleanAt.IsZero():
		return "kept"
	case n.MadeAt.IsZero():
		return "begun"
	}
	return "wrapping"
}

// Wraps reports whether something may still be under an older version.
func (n Run) Wraps() bool { return n.FinishedAt.IsZero() && n.endingAt.IsZero() && n.CleanAt.IsZero() }

// stuck reports whether a run has met something that does not open, and has had its time: the next one begins beside it.
func (n Run) stuck(now time.Time) bool {
	return !n.MadeAt.IsZero() && n.Failed > 0 && !now.Before(n.BegunAt.Add(again))
}

// KeptUntil is when the older versions are destroyed; zero as long as something needs them.
func (r *Room) KeptUntil(n Run) time.Time {
	if n.CleanAt.IsZero() {
		return time.Time{}
	}
	return n.CleanAt.Add(r.cfg.Kept)
}

func (n Run) event(what string, more ...audit.Field) audit.Event {
	return audit.Event{Type: "key_rotation." + what, Target: audit.Target{Kind: "key_rotation", ID: n.ID.String()}, Public: more}
}

func field(name string, value any) audit.Field {
	return audit.Field{Name: name, Value: fmt.Sprint(value)}
}

func operator(by tenantdb.Caller) error {
	if by.Actor().Kind == audit.ActorSystem {
		return nil
	}
	return problem.New(problem.Denied, "Only the operator rotates keys.")
}

// Runs are the rotations of the caller's organisation, the newest first.
func (r *Room) Runs(ctx context.Context, by tenantdb.Caller) (all []Run, err error) {
	if err := operator(by); err != nil {
		return nil, err
	}
	err = r.cfg.DB.Read(ctx, by, func(tx *tenantdb.ReadTx) error {
		all, err = readRuns(ctx, tx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("rotation.Runs: %w", err)
	}
	return all, nil
}

// Begin begins a rotation of the caller's organisation, or is told of the one that still wraps, unless that has been kept up for an hour
// by what does not open. Work does it. by is the operator, or the schedule: a system caller.
func (r *Room) Begin(ctx context.Context, by tenantdb.Caller) (n Run, err error) {
	if err := operator(by); err != nil {
		return n, err
	}
	if err := r.cfg.DB.ClockAgrees(ctx); err != nil { // it says when the run is due
		return n, wrapped("Begin", err)
	}
	err = r.cfg.DB.Change(ctx, by, func(tx *tenantdb.Tx) (audit.Event, error) {
		runs, err := readRuns(ctx, &tx.ReadTx)
		if err != nil {
			return audit.Event{}, err
		}
		for _, other := range runs {
			if other.Wraps() && !other.stuck(r.instant()) {
				n = other
				return audit.Event{}, nil
			}
		}
		if n, err = r.next(ctx, tx); err != nil {
			return audit.Event{}, err
		}
		// No decision is made otherwise because of it: the epoch stays.
		return n.event("begun", field("wrap", n.Wrap), field("subjects", n.Subjects)), insertRun(ctx, tx, n)
	})
	if err != nil {
		return Run{}, fmt.Errorf("rotation.Begin: %w", err)
	}
	return n, nil
}

// next is a run to the versions after the last. It looks at the key store with the head in hand, once in months: of two that begin, the
// second sees the first one's row, or the versions that it made.
func (r *Room) next(ctx context.Context, tx *tenantdb.Tx) (n Run, err error) {
	if gone, err := deleted(ctx, &tx.ReadTx); err != nil {
		return n, err
	} else if gone {
		return n, problem.New(problem.Conflict, "The organisation is deleted: its keys are destroyed and not rotated.")
	}
	wrap, err := r.after(tx.Tenant(), keyring.UseWrap)
	if err != nil {
		return n, err
	}
	subjects, err := r.after(tx.Tenant(), keyring.UseSubjects)
	if err != nil {
		return n, err
	}
	by := tx.Caller().Actor()
	return Run{ID: id.At[rotationKind](r.cfg.Now()), Wrap: wrap, Subjects: subjects, AskedBy: string(by.Kind) + ":" + by.ID, BegunAt: r.instant(), DueAt: r.instant()}, nil
}

func (r *Room) after(t tenantdb.TenantID, use keyring.Use) (uint32, error) {
	live, last, err := r.cfg.Ring.Versions(t, use)
	if err == nil && live == 0 {
		err = problem.New(problem.Conflict, "The organisation's keys are destroyed: there is nothing to rotate.")
	}
	return last + 1, err
}

// errTaken says that somebody else goes on with the run.
var errTaken = errors.New("another worker has taken over")
