package postgres

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strconv"
)

// Known is a log as it was when somebody looked before: what its owner rewrote since then is found by it.
type Known struct {
	Size int64
	Hash [sha256.Size]byte
}

// Report is what Check found.
type Report struct {
	Installation string `json:"installation"`
	Version      int    `json:"version"`
	Size         int64  `json:"size"`
	Hash         string `json:"hash"` // of the last entry: keep it, with the size, where the database's owner cannot reach it
	Fault        *Fault `json:"fault,omitempty"`
}

// Fault is the first entry of a log that is not as it was written.
type Fault struct {
	Seq    int64  `json:"seq"`
	Reason string `json:"reason"`
}

// entry is a row of the log.
type entry struct {
	seq, micros           int64
	actor, action, target string
	data                  string
	body, prev, hash      []byte
}

// Check reads the log and computes its chain here, so that a function of the database, which its owner can replace, has no
// part in the answer.
func Check(ctx context.Context, dsn string, known Known) (Report, error) {
	r, err := readLog(ctx, dsn, func(installation string) *chain { return &chain{installation: installation, known: known} })
	if err != nil {
		return Report{}, fmt.Errorf("postgres.Check: %w", err)
	}
	return r, nil
}

// chain is what was read of a log so far.
type chain struct {
	installation string
	known        Known
	next         int64
	hash         [sha256.Size]byte
	fault        *Fault
}

// add takes the next entry, and reports whether it fits.
func (c *chain) add(e *entry) bool {
	hash := sha256.Sum256(append(c.hash[:], e.body...))
	switch {
	case e.seq != c.next:
		c.fault = &Fault{c.next, "is not there"}
	case !bytes.Equal(e.prev, c.hash[:]) || !bytes.Equal(e.hash, hash[:]):
		c.fault = &Fault{c.next, "is not what was chained"}
	case !e.says(c.installation):
		c.fault = &Fault{c.next, "does not say what was hashed"}
	case c.next+1 == c.known.Size && hash != c.known.Hash:
		c.fault = &Fault{c.next, "is not what you knew"}
	default:
		c.hash = hash
		c.next++
		return true
	}
	return false
}

// end compares what was read with what the database says that there is.
func (c *chain) end(size int64, hash []byte) {
	if c.fault == nil && (c.next != size || !bytes.Equal(c.hash[:], hash) || c.next < c.known.Size) {
		c.fault = &Fault{c.next, "is not there"}
	}
}

// says reports whether the columns of an entry say what its body does, which is what was hashed.
func (e *entry) says(installation string) bool {
	var parts []json.RawMessage
	if json.Unmarshal(e.body, &parts) != nil || len(parts) != 8 {
		return false
	}
	var texts [5]string // format, installation, actor, action, target
	for i, part := range []int{0, 1, 4, 5, 6} {
		if json.Unmarshal(parts[part], &texts[i]) != nil {
			return false
		}
	}
	return texts == [5]string{"avouch_keys/log/v1", installation, e.actor, e.action, e.target} &&
		string(parts[2]) == strconv.FormatInt(e.seq, 10) && string(parts[3]) == strconv.FormatInt(e.micros, 10) && string(parts[7]) == e.data
}
