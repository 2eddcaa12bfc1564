package trail

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

// LogReport is what a check found one tenant's log in the database to be.
type LogReport struct {
	Tenant   tenantdb.TenantID
	Log      audit.LogID
	Size     int64    // entries, as the head says
	Checked  int64    // entries found good, from the first on
	Root     [32]byte // of the entries found good
	Link     [32]byte // their chain
	Opened   int64    // private fields that opened and are what was committed to
	Erased   int64    // private fields whose key was destroyed on purpose
	Unopened int64    // private fields that were not tried, for want of the keys
	Fault    *audit.Fault
}

// OK reports whether everything holds.
func (l *LogReport) OK() bool { return l.Fault == nil }

// MarshalJSON writes hashes in lower-case hexadecimal, and the fault as `first_bad` (-1: no single entry) and `reason`.
func (l LogReport) MarshalJSON() ([]byte, error) {
	out := struct {
		Tenant   tenantdb.TenantID `json:"tenant_id"`
		Log      audit.LogID       `json:"log_id"`
		OK       bool              `json:"ok"`
		Size     int64             `json:"size"`
		Checked  int64             `json:"checked"`
		Root     string            `json:"root"`
		Link     string            `json:"link"`
		Opened   int64             `json:"private_opened"`
		Erased   int64             `json:"private_erased"`
		Unopened int64             `json:"private_unopened"`
		FirstBad *audit.Seq        `json:"first_bad,omitempty"`
		Reason   string            `json:"reason,omitempty"`
	}{Tenant: l.Tenant, Log: l.Log, OK: l.OK(), Size: l.Size, Checked: l.Checked, Root: hex.EncodeToString(l.Root[:]),
		Link: hex.EncodeToString(l.Link[:]), Opened: l.Opened, Erased: l.Erased, Unopened: l.Unopened}
	if l.Fault != nil {
		out.FirstBad, out.Reason = &l.Fault.Index, l.Fault.Reason
	}
	return json.Marshal(out)
}

// CheckDatabase checks the log of every tenant, through the door, and reports each. Its error is not about the logs: it
// says that they could not be read. With a nil sealer private fields are counted and not opened.
func CheckDatabase(ctx context.Context, db *tenantdb.DB, s tenantdb.Sealer, report func(LogReport) error) error {
	err := db.Each(ctx, "audit check", func(c tenantdb.Caller) error {
		l, err := checkLog(ctx, c.Tenant(), s, func(fn func(querier) error) error {
			return db.Read(ctx, c, func(tx *tenantdb.ReadTx) error { return fn(tx) })
		})
		if err != nil {
			return err
		}
		return report(l)
	})
	if err != nil {
		return fmt.Errorf("trail.CheckDatabase: %w", err)
	}
	return nil
}

// CheckDatabaseAt is CheckDatabase on a connection of its own, for an administrator: it asks nothing of the server or of
// its role. A superuser's sees all there is, also rows of tenants that do not exist.
func CheckDatabaseAt(ctx context.Context, url string, s tenantdb.Sealer, report func(LogReport) error) error {
	conn, err := connect(ctx, url)
	if err != nil {
		return fmt.Errorf("trail.CheckDatabaseAt: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	err = conn.tenants(ctx, func(t tenantdb.TenantID) error {
		l, err := checkLog(ctx, t, s, func(fn func(querier) error) error { return conn.read(ctx, t, fn) })
		if err != nil {
			return err
		}
		return report(l)
	})
	if err != nil {
		return fmt.Errorf("trail.CheckDatabaseAt: %w", err)
	}
	return nil
}

// reader runs a function in a short transaction bound to the tenant that is being checked.
type reader func(func(querier) error) error

// checkLog checks one log from its first entry to the head as it was at the beginning. What is appended meanwhile lies
// beyond that and is not looked at, so there is nothing to be wrong about.
func checkLog(ctx context.Context, t tenantdb.TenantID, s tenantdb.Sealer, read reader) (LogReport, error) {
	out := LogReport{Tenant: t}
	h, fault, err := soundHead(ctx, t, read)
	if err != nil || fault != nil {
		out.Fault = fault
		return out, err
	}
	out.Log, out.Size = h.log, h.size
	k := newChecker(t, s, audit.State{Log: h.log, Link: audit.Genesis})
	out.Fault, err = k.run(ctx, read, h.size, func(int) error { return nil })
	if out.Fault == nil && err == nil {
		out.Fault = k.end(h)
	}
	end := k.verifier.State()
	out.Checked, out.Root, out.Link = end.Tree.Size(), end.Tree.Root(), end.Link
	out.Opened, out.Erased, out.Unopened = k.opened, k.erased, k.unopened
	return out, err
}

// soundHead reads a head.
func soundHead(ctx context.Context, t tenantdb.TenantID, read reader) (h head, fault *audit.Fault, err error) {
	found := false
	err = read(func(q querier) error {
		h, found, err = readHead(ctx, q, t)
		return err
	})
	switch {
	case err != nil:
	case !found:
		fault = faulty(audit.Whole, "there are entries of a tenant that has no log")
	case h.size < 0 || h.size > audit.MaxSize:
		fault = faulty(audit.Whole, "the head says that there are %d entries", h.size)
	}
	return h, fault, err
}

func faulty(at audit.Seq, format string, args ...any) *audit.Fault {
	return &audit.Fault{Index: at, Part: "database", Reason: fmt.Sprintf(format, args...)}
}

// checker checks the rows of one log in their order.
type checker struct {
	tenant                   tenantdb.TenantID
	sealer                   tenantdb.Sealer
	verifier                 *audit.Verifier
	whole                    audit.State // up to here everything was looked at; the verifier may be ahead of that by an entry that could not be opened
	opened, erased, unopened int64
}

func newChecker(t tenantdb.TenantID, s tenantdb.Sealer, from audit.State) *checker {
	return &checker{tenant: t, sealer: s, verifier: audit.ResumeVerifier(from), whole: from}
}

// checkChunk is how many rows one transaction of a check reads.
const checkChunk = 500

// run checks from where the checker is up to a number. spend is told of each chunk of rows before it is read, and may
// wait or refuse; its error ends the run, as does a database that cannot be read.
func (k *checker) run(ctx context.Context, read reader, end int64, spend func(rows int) error) (*audit.Fault, error) {
	for at := k.at(); at < end; at = k.at() {
		to := min(at+checkChunk, end)
		if err := spend(int(to - at)); err != nil {
			return nil, err
		}
		var rows []row
		err := read(func(q querier) (err error) {
			rows, err = readRange(ctx, q, k.tenant, at, to)
			return err
		})
		if err != nil {
			return nil, err
		}
		if fault, err := k.addAll(ctx, rows, to); fault != nil || err != nil {
			return fault, err
		}
		k.whole = k.verifier.State()
	}
	return nil, nil
}

func (k *checker) at() int64 {
	state := k.verifier.State()
	return state.Tree.Size()
}

func (k *checker) addAll(ctx context.Context, rows []row, to int64) (*audit.Fault, error) {
	for i := range rows {
		if fault, err := k.add(ctx, &rows[i]); fault != nil || err != nil {
			return fault, err
		}
	}
	if at := k.at(); at < to {
		return faulty(audit.Seq(at), "the entry is missing"), nil
	}
	return nil, nil
}

func (k *checker) add(ctx context.Context, v *row) (*audit.Fault, error) {
	at := k.at()
	switch {
	case v.seq < at:
		return faulty(audit.Seq(v.seq), "there are two entries of this number"), nil
	case v.seq > at:
		return faulty(audit.Seq(at), "the entry is missing"), nil
	case len(v.leaf) != 32 || len(v.prev) != 32:
		return faulty(audit.Seq(at), "leaf or prev is not 32 bytes long"), nil
	}
	if err := k.verifier.Add(v.record()); err != nil {
		var fault *audit.Fault
		if errors.As(err, &fault) {
			return faulty(fault.Index, "%s", fault.Reason), nil
		}
		return nil, err
	}
	e, err := audit.Decode(v.body)
	if err != nil {
		return faulty(audit.Seq(at), "%v", err), nil
	}
	if v.entry != e.ID || v.request != e.Request {
		return faulty(audit.Seq(at), "entry_id or request_id is not the one in the entry"), nil
	}
	if about, person := tenantdb.LookedUpBy(&e); about != orZeros(v.about) || person != orZeros(v.person) {
		return faulty(audit.Seq(at), "the entry is not found by what it is about, or by who acted"), nil
	}
	return k.sealed(ctx, at, &e, v.sealed)
}

func orZeros(column *[16]byte) (b [16]byte) {
	if column != nil {
		b = *column
	}
	return b
}

// sealed checks the private fields, which are no part of the leaf: the entry's commitment says what they must be.
func (k *checker) sealed(ctx context.Context, at int64, e *audit.Entry, sealed []byte) (*audit.Fault, error) {
	c := private(e)
	switch {
	case c == nil && sealed == nil:
		return nil, nil
	case c == nil:
		return faulty(audit.Seq(at), "there are private fields that the entry did not commit to"), nil
	case sealed == nil:
		return faulty(audit.Seq(at), "the private fields that the entry committed to are missing"), nil
	case k.sealer == nil:
		k.unopened++
		return nil, nil
	}
	plain, err := open(ctx, k.sealer, k.tenant, e, sealed)
	switch {
	case errors.Is(err, keyring.ErrDestroyed):
		k.erased++
		return nil, nil
	case problem.Is(err, problem.TenantKey): // its own key management does not open it here
		k.unopened++
		return nil, nil
	case unreadable(err):
		return faulty(audit.Seq(at), "the private fields do not open: they were altered or moved, or their key is lost"), nil
	case err != nil:
		return nil, fmt.Errorf("opening private fields: %w", err)
	}
	if _, err := audit.Reveal(plain, c.Sum); err != nil {
		return faulty(audit.Seq(at), "the private fields are not those that the entry committed to"), nil
	}
	k.opened++
	return nil, nil
}

// end compares the rows as a whole with the head.
func (k *checker) end(h head) *audit.Fault {
	link := k.verifier.State().Link
	switch {
	case h.first != nil && *h.first < 0:
		return faulty(audit.Whole, "there is an entry of the number %d", *h.first)
	case h.last != nil && *h.last >= h.size:
		return faulty(audit.Seq(h.size), "the head says %d entries, and there is one of the number %d", h.size, *h.last)
	case string(link[:]) != string(h.chain):
		return faulty(audit.Whole, "the entries agree with one another, and not with the head's link")
	}
	return nil
}

// describe gives a fault the words of an incident.
func describe(f *audit.Fault) string {
	if f.Index == audit.Whole {
		return fmt.Sprintf("The log does not verify: %s.", f.Reason)
	}
	return fmt.Sprintf("The log does not verify from entry %d on: %s.", f.Index, f.Reason)
}
