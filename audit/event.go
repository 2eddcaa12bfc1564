package audit

import (
	"crypto/rand"

	"github.com/avouch-dev/avouch/internal/id"
)

// The kinds of identifier that an entry holds.
type (
	entryKind   struct{}
	logKind     struct{}
	requestKind struct{}
	subjectKind struct{}
)

// EntryID names an entry; the server makes it, and duplicates are told by nothing else.
type EntryID = id.ID[entryKind]

// LogID names a log. It is random, so that an entry tells nothing of the tenant to one who does not know it.
type LogID = id.ID[logKind]

// RequestID names the request that caused an entry.
type RequestID = id.ID[requestKind]

// SubjectID names a data subject: whoever personal data is about. The zero value is the organisation itself.
type SubjectID = id.ID[subjectKind]

// NewEntryID makes the name of a new entry.
func NewEntryID() EntryID { return id.New[entryKind]() }

// NewLogID makes the name of a new log.
func NewLogID() LogID { return LogID(rand128()) }

// NewRequestID makes the name of a new request.
func NewRequestID() RequestID { return id.New[requestKind]() }

// NewSubjectID makes the name of a new data subject.
func NewSubjectID() SubjectID { return id.New[subjectKind]() }

// rand128 is an identifier that does not tell when it was made.
func rand128() (b [16]byte) {
	rand.Read(b[:]) // never fails
	return b
}

// Seq is the position of an entry in its log: 0 for the first, without gaps.
type Seq int64

// ActorKind says what sort of thing acted.
type ActorKind string

// The actors.
const (
	ActorKey     ActorKind = "key"     // an owner or service key of this tenant
	ActorAgent   ActorKind = "agent"   // an agent of this tenant
	ActorPerson  ActorKind = "person"  // a member of this tenant
	ActorService ActorKind = "service" // another tenant's service, named by its tenant
	ActorSystem  ActorKind = "system"  // Avouch itself or its operator
	ActorNobody  ActorKind = "nobody"  // not authenticated
)

// Actor is who acted: a kind and an opaque identifier that means something inside the tenant only.
type Actor struct {
	Kind ActorKind
	ID   string // at most 128 bytes; never a name or an address
}

// Target is what was acted upon: a kind ("agent", "key") and its opaque identifier.
type Target struct {
	Kind string // at most 32 bytes
	ID   string // at most 256 bytes
}

// Outcome says how an act ended.
type Outcome string

// The outcomes.
const (
	Done   Outcome = "done"   // it happened
	Denied Outcome = "denied" // it was refused, and changed nothing
	Failed Outcome = "failed" // it was tried and did not work, and changed nothing
	Stated Outcome = "stated" // the actor says that it happened; Avouch did not see it
)

// Field is a named value of an event.
type Field struct {
	Name  string // lower_case, at most 64 bytes
	Value string
}

// Event is something that happened, as a room tells it. The door adds who, when, and under which request, and makes the
// Entry from it. The zero Event means that nothing happened.
type Event struct {
	Type     string // dotted: "agent.registered"; at most 64 bytes
	Target   Target
	Outcome  Outcome // empty means Done
	Decision string  // ALLOWED, DENIED, REVOKED, EXPIRED for a verification; else empty
	Policy   string  // the version of the rules that decided
	// Public fields are written as they are: identifiers, numbers, hashes and words from closed lists. Never free text.
	Public []Field
	// Private fields may hold personal data: the entry holds only a commitment to them (see Commit).
	Private []Field
	// Subject is whom the private fields are about.
	Subject SubjectID
	// Alters says that a decision made before this event may come out otherwise after it: it moves the tenant's epoch.
	Alters bool
}
