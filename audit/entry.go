package audit

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"
)

// Version is the version of the entry's bytes that this package writes, and the only one that it reads.
const Version = 1

// The limits of an entry. Larger bodies go in by hash.
const (
	MaxEntry       = 16 << 10 // bytes of an encoded entry
	MaxPublic      = 64       // public fields of an entry
	MaxCommitments = 16       // groups of private fields of an entry

	maxType     = 64
	maxKind     = 32
	maxActorID  = 128
	maxTargetID = 256
	maxHow      = 64
	maxSource   = 128
	maxDecision = 32
	maxPolicy   = 128
	maxName     = 64
	maxValue    = 4096
	maxTime     = 253402300799 // the last second of the year 9999: RFC 3339 knows no later one
)

// Entry is one thing that happened, as the log keeps it. Its bytes (Encode) are stored as they are; nothing is ever
// hashed from a value read back from a column. It has no sequence number: the database gives that at commit (Record).
type Entry struct {
	Version     int
	Log         LogID
	ID          EntryID
	Time        time.Time // the server's clock, to the microsecond; the order of entries is their sequence, never this
	Type        string    // dotted lower case: "agent.registered"
	Request     RequestID // zero if no request caused it
	Actor       Actor
	How         string // how the actor was authenticated: "api-key", "agent-token", "system"
	Source      string // the service that asked, opaque; may be empty
	Target      Target // may be empty
	Outcome     Outcome
	Decision    string // an upper-case word; may be empty
	Policy      string // the version of the rules that decided; may be empty
	Public      []Field
	Commitments []Commitment
}

// Commitment stands in an entry for a group of fields that may hold personal data: it binds them and tells nothing of them.
type Commitment struct {
	Name    string    // the group: lower_case
	Subject SubjectID // whom the fields are about
	Sum     [32]byte  // see Commit
}

// check holds an entry to its limits. The decoder calls it too, so what cannot be written cannot be read.
func (e *Entry) check() error {
	if e.Version != Version {
		return fmt.Errorf("version is %d; want %d", e.Version, Version)
	}
	if e.Log.IsZero() || e.ID.IsZero() {
		return fmt.Errorf("log and id must both be set")
	}
	if s := e.Time.Unix(); s < 0 || s > maxTime {
		return fmt.Errorf("time is outside the years 1970 to 9999")
	}
	if err := word("type", e.Type, 1, maxType, dotted); err != nil {
		return err
	}
	if !e.Actor.Kind.known() {
		return fmt.Errorf("actor.kind is not one of the kinds")
	}
	if err := text("actor.id", e.Actor.ID, 0, maxActorID); err != nil {
		return err
	}
	if err := text("how", e.How, 1, maxHow); err != nil {
		return err
	}
	if err := text("source", e.Source, 0, maxSource); err != nil {
		return err
	}
	if err := e.Target.check(); err != nil {
		return err
	}
	if !e.Outcome.known() {
		return fmt.Errorf("outcome is not one of the outcomes")
	}
	if err := word("decision", e.Decision, 0, maxDecision, upper); err != nil {
		return err
	}
	if err := text("policy", e.Policy, 0, maxPolicy); err != nil {
		return err
	}
	if err := checkPublic(e.Public); err != nil {
		return err
	}
	return checkCommitments(e.Commitments)
}

func (t *Target) check() error {
	if t.Kind == "" && t.ID != "" {
		return fmt.Errorf("target.id is set and target.kind is not")
	}
	if err := word("target.kind", t.Kind, 0, maxKind, dotted); err != nil {
		return err
	}
	return text("target.id", t.ID, 0, maxTargetID)
}

func (k ActorKind) known() bool {
	switch k {
	case ActorKey, ActorAgent, ActorPerson, ActorService, ActorSystem, ActorNobody:
		return true
	}
	return false
}

func (o Outcome) known() bool {
	switch o {
	case Done, Denied, Failed, Stated:
		return true
	}
	return false
}

func checkPublic(fields []Field) error {
	if len(fields) > MaxPublic {
		return fmt.Errorf("public has %d fields; at most %d", len(fields), MaxPublic)
	}
	for i := range fields {
		if err := word("public name", fields[i].Name, 1, maxName, snake); err != nil {
			return err
		}
		if err := text(fields[i].Name, fields[i].Value, 0, maxValue); err != nil {
			return fmt.Errorf("public: %w", err)
		}
		for j := range i { // two values of one name could be read two ways
			if fields[j].Name == fields[i].Name {
				return fmt.Errorf("public: %s is there twice", fields[i].Name)
			}
		}
	}
	return nil
}

func checkCommitments(cs []Commitment) error {
	if len(cs) > MaxCommitments {
		return fmt.Errorf("there are %d commitments; at most %d", len(cs), MaxCommitments)
	}
	for i := range cs {
		if err := word("commitment name", cs[i].Name, 1, maxName, snake); err != nil {
			return err
		}
		for j := range i {
			if cs[j].Name == cs[i].Name {
				return fmt.Errorf("commitment %s is there twice", cs[i].Name)
			}
		}
	}
	return nil
}

// text holds a string to a length, to UTF-8, and to no control characters: those end up in terminals and log lines, and
// PostgreSQL refuses NUL, so that one entry could spoil the batch it is in.
func text(field, s string, least, most int) error {
	if len(s) < least || len(s) > most {
		return fmt.Errorf("%s is %d bytes long; want %d to %d", field, len(s), least, most)
	}
	ascii := true
	for i := range len(s) {
		c := s[i]
		if c < 0x20 || c == 0x7f {
			return fmt.Errorf("%s holds a control character at byte %d", field, i)
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	if !ascii && !utf8.ValidString(s) {
		return fmt.Errorf("%s is not UTF-8", field)
	}
	return nil
}

type alphabet int

const (
	snake  alphabet = iota // a-z 0-9 _
	dotted                 // snake, and . and -
	upper                  // A-Z 0-9 _
)

func (a alphabet) has(c byte) bool {
	switch {
	case '0' <= c && c <= '9' || c == '_':
		return true
	case 'a' <= c && c <= 'z':
		return a != upper
	case 'A' <= c && c <= 'Z':
		return a == upper
	}
	return a == dotted && (c == '.' || c == '-')
}

func word(field, s string, least, most int, a alphabet) error {
	if len(s) < least || len(s) > most {
		return fmt.Errorf("%s is %d bytes long; want %d to %d", field, len(s), least, most)
	}
	for i := range len(s) {
		if !a.has(s[i]) {
			return fmt.Errorf("%s holds a character that is not allowed, at byte %d", field, i)
		}
	}
	return nil
}

// hexHash is a hash as people read it.
type hexHash [32]byte

func (h hexHash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// MarshalJSON writes the entry for people and their programs: hashes in lower-case hexadecimal, time in RFC 3339 with
// microseconds. It is never hashed, and there is no way back: the bytes are the entry.
func (e Entry) MarshalJSON() ([]byte, error) {
	type commitment struct {
		Name    string    `json:"name"`
		Subject SubjectID `json:"subject_id"`
		Sum     hexHash   `json:"sum"`
	}
	type pair struct {
		Kind string `json:"kind"`
		ID   string `json:"id"`
	}
	out := struct {
		Version     int               `json:"version"`
		Log         LogID             `json:"log_id"`
		ID          EntryID           `json:"entry_id"`
		Time        string            `json:"time"`
		Type        string            `json:"type"`
		Request     *RequestID        `json:"request_id,omitempty"`
		Actor       pair              `json:"actor"`
		How         string            `json:"how"`
		Source      string            `json:"source,omitempty"`
		Target      *pair             `json:"target,omitempty"`
		Outcome     Outcome           `json:"outcome"`
		Decision    string            `json:"decision,omitempty"`
		Policy      string            `json:"policy,omitempty"`
		Public      map[string]string `json:"public,omitempty"`
		Commitments []commitment      `json:"commitments,omitempty"`
	}{Version: e.Version, Log: e.Log, ID: e.ID, Time: e.Time.UTC().Format("2006-01-02T15:04:05.000000Z07:00"), Type: e.Type,
		Actor: pair{string(e.Actor.Kind), e.Actor.ID}, How: e.How, Source: e.Source, Outcome: e.Outcome,
		Decision: e.Decision, Policy: e.Policy}
	if !e.Request.IsZero() {
		out.Request = &e.Request
	}
	if e.Target != (Target{}) {
		out.Target = &pair{e.Target.Kind, e.Target.ID}
	}
	if len(e.Public) > 0 {
		out.Public = make(map[string]string, len(e.Public))
	}
	for _, f := range e.Public {
		out.Public[f.Name] = f.Value
	}
	for _, c := range e.Commitments {
		out.Commitments = append(out.Commitments, commitment{c.Name, c.Subject, c.Sum})
	}
	return json.Marshal(out)
}
