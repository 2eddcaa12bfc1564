package vault

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/id"
	"github.com/avouch-dev/avouch/internal/otp"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/vault/fetch"
)

type (
	itemKind    struct{}
	grantKind   struct{}
	requestKind struct{}
)

// ID names an item.
type ID = id.ID[itemKind]

// ParseID reads the canonical form.
func ParseID(s string) (ID, error) { return id.Parse[itemKind](s) }

// Kind is what an item holds.
type Kind string

// The kinds.
const (
	TOTP        = Kind(otp.TOTP)
	HOTP        = Kind(otp.HOTP)
	Steam       = Kind(otp.Steam)
	Codes  Kind = "codes"  // recovery codes, each of which works once
	Secret Kind = "secret" // a text, such as an API token: used, and seen by nobody
)

// gives reports whether codes are made of it, or taken from it.
func (k Kind) gives() bool { return k != Secret }

// moves reports whether a fetch changes the item.
func (k Kind) moves() bool { return k == HOTP || k == Codes }

// About is what people know an item by.
type About struct {
	Name    string   `json:"name"`
	Issuer  string   `json:"issuer,omitempty"`
	Account string   `json:"account,omitempty"`
	Folder  string   `json:"folder,omitempty"` // by parts: "cloud/aws"
	Tags    []string `json:"tags,omitempty"`   // sorted
	Notes   string   `json:"notes,omitempty"`
	Icon    string   `json:"icon,omitempty"` // a name that a client knows a picture by
}

// content is what an item keeps secret.
type content struct {
	Key       []byte        `json:"key,omitempty"` // of codes
	Algorithm otp.Algorithm `json:"algorithm,omitempty"`
	Digits    int           `json:"digits,omitempty"`
	Period    int64         `json:"period,omitempty"`
	Codes     []string      `json:"codes,omitempty"`
	Text      []byte        `json:"text,omitempty"`
}

// clear forgets what can be overwritten.
func (c *content) clear() {
	clear(c.Key)
	clear(c.Text)
	c.Codes = nil
}

func (c *content) scheme() otp.Scheme {
	return otp.Scheme{Algorithm: c.Algorithm, Digits: c.Digits, Period: c.Period}
}

// Item is an item without what it keeps secret.
type Item struct {
	ID        ID
	Kind      Kind
	About     About
	Policy    Policy
	Listed    bool // every member may know that it is there, and ask for it
	Creator   Actor
	CreatedAt time.Time
	Version   int64

	counter       int64 // of the next code, for HOTP
	taken         []int32
	secretVersion int64
	about, secret []byte // sealed
	mark          []byte // keyring.Ring.SeedMark of its seed; nil without one
	unread        bool   // its policy is none that can be read
}

// Actor is somebody who may be granted something, or did something: a person, a group, an agent, a key; "system" is Avouch itself.
type Actor struct {
	Kind string
	ID   string
}

// The kinds of those to whom items are granted.
const (
	APerson = "person"
	AGroup  = "group"
	AnAgent = "agent"
	AKey    = "key"
)

// String is the actor for the log.
func (a Actor) String() string { return a.Kind + ":" + a.ID }

func actorOf(a audit.Actor) Actor { return Actor{string(a.Kind), a.ID} }

// The bounds of an item.
const (
	mostName  = 200
	mostNotes = 10_000
	mostTags  = 20
	mostTag   = 64
	mostCodes = 100
	mostCode  = 100
	mostText  = 16 << 10 // bytes of a plain secret
)

// tidy puts tags and folder into their one form.
func (a *About) tidy() {
	slices.Sort(a.Tags)
	a.Tags = slices.Compact(a.Tags)
	a.Folder = strings.Trim(a.Folder, "/")
}

// check says what is wrong, field by field.
func (a *About) check(w *wrong) {
	w.text("name", a.Name, 1, mostName)
	w.text("issuer", a.Issuer, 0, mostName)
	w.text("account", a.Account, 0, mostName)
	w.text("folder", a.Folder, 0, mostName)
	w.text("icon", a.Icon, 0, mostTag)
	if len([]rune(a.Notes)) > mostNotes {
		w.add("notes", "has over %d characters", mostNotes)
	}
	if len(a.Tags) > mostTags {
		w.add("tags", "are over %d", mostTags)
	}
	for i, t := range a.Tags {
		w.text(fmt.Sprintf("tags[%d]", i), t, 1, mostTag)
	}
}

// wrong collects what is wrong with a request.
type wrong struct{ fields []problem.Field }

func (w *wrong) add(field, format string, args ...any) {
	w.fields = append(w.fields, problem.Field{Location: "body." + field, Message: fmt.Sprintf(format, args...)})
}

// text holds a line of text to its bounds.
func (w *wrong) text(field, s string, least, most int) {
	switch n := len([]rune(s)); {
	case n < least || n > most:
		w.add(field, "must have %d to %d characters", least, most)
	case strings.TrimSpace(s) != s || strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }):
		w.add(field, "has a space at an end, or a character that nobody sees")
	}
}

// notKept is what is wrong with an item as a whole.
const notKept = "The item is not one that can be kept."

// problem says of a whole what was collected of its fields; nil if that is nothing.
func (w *wrong) problem(says string) error {
	if len(w.fields) == 0 {
		return nil
	}
	p := problem.New(problem.Invalid, "%s", says)
	p.Fields = w.fields
	return p
}

// check holds the content of a kind to its bounds; what it says holds nothing of the content.
func (c *content) check(k Kind, w *wrong) {
	switch k {
	case TOTP, HOTP, Steam:
		if n := len(c.Key); n == 0 || n > 512 {
			w.add("secret", "must be a seed of 1 to 512 bytes, in base32")
		}
		if err := c.scheme().For(otp.Kind(k)); err != nil {
			w.add("type", "algorithm, digits and period are none of this type: %s", schemeOf(k))
		}
	case Codes:
		if n := len(c.Codes); n == 0 || n > mostCodes {
			w.add("codes", "must be 1 to %d", mostCodes)
		}
		for i, code := range c.Codes {
			w.text(fmt.Sprintf("codes[%d]", i), code, 1, mostCode)
		}
	case Secret:
		if n := len(c.Text); n == 0 || n > mostText {
			w.add("secret", "must have 1 to %d bytes", mostText)
		}
	default:
		w.add("type", "is none of totp, hotp, steam, codes and secret")
	}
}

func schemeOf(k Kind) string {
	switch k {
	case HOTP:
		return "SHA1, SHA256 or SHA512, and 6 to 10 digits"
	case Steam:
		return "SHA1, 5 letters and 30 seconds"
	}
	return "SHA1, SHA256 or SHA512, 6 to 10 digits, and a period of 1 second to a day"
}

func (c *content) encode() ([]byte, error) { return json.Marshal(c) }

func decodeContent(plain []byte) (c content, err error) {
	if err := json.Unmarshal(plain, &c); err != nil {
		return c, errors.New("vault: what an item keeps secret cannot be read") // the error would quote it
	}
	return c, nil
}

// Level is how much a grant lets somebody do.
type Level string

// The levels. Whoever may have the seed may have its codes.
const (
	ForCode Level = "code"
	ForSeed Level = "seed"
)

// covers reports whether a level is enough for another.
func (l Level) covers(want Level) bool { return l == want || l == ForSeed }

// GrantID names a grant.
type GrantID = id.ID[grantKind]

// Grant lets somebody use an item.
type Grant struct {
	ID        GrantID
	Item      ID
	To        Actor
	Level     Level
	GrantedBy string
	GrantedAt time.Time
	ExpiresAt *time.Time
	EndedAt   *time.Time
	EndedBy   *string
}

func (g *Grant) live(now time.Time) bool {
	return g.EndedAt == nil && (g.ExpiresAt == nil || now.Before(*g.ExpiresAt))
}

// RequestID names a request.
type RequestID = id.ID[requestKind]

// Request is somebody's wish to use an item for a while.
type Request struct {
	ID        RequestID
	Item      ID
	By        Actor
	Level     Level
	Reason    string
	For       time.Duration
	Granted   bool // the item was granted to the asker already: then the grant must last too
	AskedAt   time.Time
	DueAt     time.Time
	DecidedBy *string
	DecidedAt *time.Time
	Outcome   string // "" while it waits, "approved", "refused", "withdrawn"
	Until     *time.Time
	EndedAt   *time.Time

	reason []byte // sealed
}

// waits reports whether somebody may still decide.
func (q *Request) waits(now time.Time) bool {
	return q.Outcome == "" && q.EndedAt == nil && now.Before(q.DueAt)
}

// lends reports whether it lets its asker use the item now.
func (q *Request) lends(now time.Time) bool {
	return q.Outcome == "approved" && q.EndedAt == nil && q.Until != nil && now.Before(*q.Until)
}

// lentUntil is until when it lends the item, or did; nil if it never has.
func (q *Request) lentUntil() *time.Time {
	if q.Until != nil && q.EndedAt != nil && q.EndedAt.Before(*q.Until) {
		return q.EndedAt
	}
	return q.Until
}

// State is the request's state in a word.
func (q *Request) State(now time.Time) string {
	switch {
	case q.EndedAt != nil:
		return "ended"
	case q.Outcome == "approved" && !q.lends(now):
		return "expired"
	case q.Outcome != "":
		return q.Outcome
	case !q.waits(now):
		return "lapsed"
	}
	return "waiting"
}

// usable holds a text that is used in requests to what a header can hold, and nobody can guess.
func (c *content) usable(p *Policy, w *wrong) {
	if p.Fetch == nil || len(c.Text) == 0 { // codes are not used so, and an empty text is none
		return
	}
	if err := fetch.Usable(secret.Own(c.Text)); err != nil {
		w.add("secret", "%v", err)
	}
}
