package trail

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Config is what a Room is made of.
type Config struct {
	DB     *tenantdb.DB
	Sealer tenantdb.Sealer // opens private fields
	Host   string          // names the logs: their origin is <Host>/audit/<log id>
	Log    *slog.Logger
	Now    func() time.Time // nil is time.Now

	// Raise opens an incident unless one of the same kind and subject is open: incident.Room.Raise.
	Raise func(ctx context.Context, c tenantdb.Caller, kind, subject, detail string) (bool, error)
	// Recheck says whether a caller's credential still counts, and why not. A stream asks it every Beat, and before it sends
	// entries if something has changed that may have stopped the credential; nil lets a stream live until its Life ends.
	Recheck func(ctx context.Context, c tenantdb.Caller) error
	// Sign gives the note key of a log, which must be named as its origin is. nil makes a new one for each export: its
	// signature then says that the files belong together, and not whose they are.
	Sign func(ctx context.Context, origin string) (signer note.Signer, vkey string, err error)
	// Spans are the spans of a request that are still remembered, and the organisation that sent it: the platform if nobody
	// was let in, zero if it is not known. nil if nobody remembers any.
	Spans func(audit.RequestID) ([]Span, tenantdb.TenantID)

	Streams Streams
	Pass    PassLimits
	TempDir string // where an export is put together before it is sent; empty is the system's
}

// Room is the logs of all tenants, in use.
type Room struct {
	cfg     Config
	streams *slots
	exports *slots
	trees   *forest
	pass    passState
}

// New makes the room.
func New(c Config) *Room {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Streams.fill()
	c.Pass.fill()
	if c.Sign == nil {
		c.Sign = throwaway
	}
	return &Room{
		cfg: c, streams: newSlots(c.Streams.PerTenant, c.Streams.All), exports: newSlots(1, 2), trees: newForest(),
		pass: passState{marks: map[tenantdb.TenantID]mark{}},
	}
}

// throwaway is a key that nobody has after the export that it is made for.
func throwaway(_ context.Context, origin string) (note.Signer, string, error) {
	private, vkey, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return nil, "", err
	}
	signer, err := note.NewSigner(private)
	return signer, vkey, err
}

// The capabilities that the room asks for.
const (
	mayRead  = "audit:read"
	mayWrite = "audit:write"
)

// allowRead admits who may read a log. The system may: it acts for an operator at the machine.
func allowRead(c tenantdb.Caller) error {
	if c.May(mayRead) || c.Actor().Kind == audit.ActorSystem {
		return nil
	}
	return problem.New(problem.Denied, "Reading the log takes the capability %s.", mayRead)
}

// errBroken says that the rows of a log are not what they must be. Whoever asked is told that something failed on our
// side; what exactly is for the verification pass to find and for an incident to say.
var errBroken = errors.New("the log does not verify")

// The reads of the log that are recorded in it, before the answer goes out. All are: whoever reads the log learns what
// people and agents did, and private fields may be personal data.
const (
	sawEntries = "entries" // a page of entries, private fields opened
	sawRequest = "request" // what one request did, private fields opened
	sawStream  = "stream"  // every entry from a number on, for as long as the stream lives, private fields opened
	sawProof   = "proof"   // one entry and what proves it; nothing opened
	sawExport  = "export"  // the whole log; private fields only if asked for
)

// record writes down that the log is about to be read, by whom and what. Query is what the reader asked for: it may hold
// anything, so it is a private field.
func (r *Room) record(ctx context.Context, c tenantdb.Caller, what string, public []audit.Field, query string) (tenantdb.Position, error) {
	ev := audit.Event{Type: "log.read", Target: audit.Target{Kind: "log"}, Public: append([]audit.Field{{Name: "what", Value: what}}, public...)}
	h, err := r.cfg.DB.Head(ctx, c.Tenant())
	if err != nil {
		return tenantdb.Position{}, fmt.Errorf("trail.record: %w", err)
	}
	ev.Target.ID = h.Log.String()
	if query != "" {
		ev.Private = []audit.Field{{Name: "query", Value: query}}
	}
	pos, err := r.cfg.DB.Record(ctx, c, ev)
	if err != nil {
		return pos, fmt.Errorf("trail.record: %w", err)
	}
	return pos, nil
}

// head reads the head of the caller's log.
func (r *Room) head(ctx context.Context, c tenantdb.Caller) (h head, err error) {
	var found bool
	err = r.cfg.DB.Read(ctx, c, func(tx *tenantdb.ReadTx) error {
		h, found, err = readHead(ctx, tx, c.Tenant())
		return err
	})
	if err == nil && !found {
		err = problem.New(problem.Missing, "There is no such organisation.")
	}
	return h, err
}
