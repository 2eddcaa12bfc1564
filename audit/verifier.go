package audit

import "fmt"

// Whole is the Index of a Fault that no single entry can be blamed for: the checkpoint or the key is bad, or the entries
// agree with one another and not with the checkpoint.
const Whole Seq = -1

// Fault is something that does not hold in a log or an export: where it shows first, and what.
type Fault struct {
	Index  Seq    `json:"index"`  // the first bad entry, or Whole
	Part   string `json:"part"`   // "record", or the name of the file
	Reason string `json:"reason"` // a sentence
}

// Error says where and what.
func (f *Fault) Error() string {
	if f.Index == Whole {
		return fmt.Sprintf("audit: %s: %s", f.Part, f.Reason)
	}
	return fmt.Sprintf("audit: entry %d: %s: %s", f.Index, f.Part, f.Reason)
}

func faultf(at Seq, part, format string, args ...any) *Fault {
	return &Fault{Index: at, Part: part, Reason: fmt.Sprintf(format, args...)}
}

// State is how far a Verifier has come: all that it needs to go on later. Whoever can write where a State is kept can make
// the next pass accept a changed past, so the root is compared with a signed checkpoint as well.
type State struct {
	Log  LogID    // zero before the first record of a log that was not named
	Link [32]byte // the chain's head: the Prev that the next record must have
	Tree Tree     // its Size is the next Seq
}

// Verifier checks records in their order: that none is missing, that each follows from the one before, that its entry is
// well formed and of this log, and that what it discloses is what was committed to. It keeps the chain's head and the
// tree's right edge, and nothing that grows.
type Verifier struct {
	state State
	fault *Fault
}

// NewVerifier starts at the first record of a log. A zero log means that of the first record.
func NewVerifier(log LogID) *Verifier { return ResumeVerifier(State{Log: log, Link: Genesis}) }

// ResumeVerifier goes on where an earlier pass stopped.
func ResumeVerifier(from State) *Verifier { return &Verifier{state: from} }

// State is how far the pass has come.
func (v *Verifier) State() State { return v.state }

// Add checks the next record. Its error is a *Fault, and after the first fault it is always that one: what follows a bad
// record proves nothing.
func (v *Verifier) Add(r Record) error {
	_, err := v.add(r, func(int, int64, [32]byte) {})
	return err
}

// add also gives the entry, which it had to decode anyway, and shows the hashes that tiles hold.
func (v *Verifier) add(r Record, visit func(level int, n int64, hash [32]byte)) (Entry, error) {
	if v.fault != nil {
		return Entry{}, v.fault
	}
	e, fault := v.judge(&r)
	if fault != nil {
		v.fault = fault
		return Entry{}, fault
	}
	v.state.Log = e.Log
	v.state.Link = r.Link()
	v.state.Tree.AppendTiled(r.Leaf, visit)
	return e, nil
}

func (v *Verifier) judge(r *Record) (Entry, *Fault) {
	at := Seq(v.state.Tree.Size())
	bad := func(format string, args ...any) (Entry, *Fault) {
		return Entry{}, faultf(at, "record", format, args...)
	}
	if r.Seq != at {
		return bad("its sequence number is %d", r.Seq)
	}
	if at >= MaxSize {
		return bad("a log has at most %d entries", int64(MaxSize))
	}
	if r.Prev != v.state.Link {
		return bad("prev is not the link of the record before")
	}
	if r.Leaf != Leaf(r.Entry) {
		return bad("leaf is not the hash of the entry")
	}
	e, err := Decode(r.Entry)
	if err != nil {
		return bad("%v", err)
	}
	if !v.state.Log.IsZero() && e.Log != v.state.Log {
		return bad("the entry is of log %s, not of log %s", e.Log, v.state.Log)
	}
	for i, d := range r.Disclosed {
		for _, before := range r.Disclosed[:i] {
			if before.Name == d.Name {
				return bad("%s is disclosed twice", d.Name)
			}
		}
		if !committed(&e, d) {
			return bad("what is disclosed as %q is not what the entry committed to", d.Name)
		}
	}
	return e, nil
}

func committed(e *Entry, d Disclosure) bool {
	for _, c := range e.Commitments {
		if d.Matches(c) {
			return true
		}
	}
	return false
}
