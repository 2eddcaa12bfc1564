package mail

import (
	"bytes"
	"embed"
	"errors"
	htmltemplate "html/template"
	"strings"
	texttemplate "text/template"
)

// Template names a kind of mail. Its files are templates/<name>.txt, which also defines the subject, and .html.
type Template string

// The templates, and what each is filled with.
const (
	KeyLeaked   Template = "key_leaked"   // KeyLeakedData
	KeyExpiring Template = "key_expiring" // KeyExpiringData
	Incident    Template = "incident"     // IncidentData
)

// Templates are all templates.
func Templates() []Template {
	return []Template{
		KeyLeaked, KeyExpiring, Incident, Invitation, Recover, RecoverDone, SignInCode, FactorChanged,
		PasswordChanged, NewDevice, SessionReused, AddressChange, AddressChanged, RulesLowered, Ownership, OrganisationDeleted, GlassAsked,
		DeletionAsked, DeletionEnded, GlassOpened, GlassReview, SSOConfigurerLeft, VaultRequested, VaultExported, VaultRedirected, KMSChanged,
	}
}

// KeyLeakedData fills KeyLeaked: a key was sent where others could read it.
type KeyLeakedData struct {
	Organisation string
	KeyID        string
	KeyName      string
	Hint         string // what identifies the key to its owner, and is no secret
	Where        string // how it was sent: "in the address of a request"
	When         string
	RequestID    string
	URL          string // of the page where the key is replaced; may be empty
	Revoked      bool   // it works no longer
	Left         string // how many keys that came from it are in force: "3", "at least 1000"; empty if none
}

// KeyExpiringData fills KeyExpiring: keys end soon.
type KeyExpiringData struct {
	Organisation string
	Days         string        // to the first end: "30 days", "1 day"
	Keys         []ExpiringKey // one at least, the first to end first
	More         int           // how many there are beside
	URL          string        // of the page where keys are rotated; may be empty
}

// Count is how many keys end.
func (d KeyExpiringData) Count() int { return len(d.Keys) + d.More }

// ExpiringKey is one of the keys that end soon.
type ExpiringKey struct {
	Name     string
	Hint     string
	Owner    string // to whom it was given; may be empty
	When     string // its end
	LastUsed string // empty if it was never used
}

// IncidentData fills Incident: something is wrong in an organisation, or in the installation.
type IncidentData struct {
	Organisation string
	Kind         string
	Detail       string
	When         string
	ID           string
	URL          string // may be empty
}

//go:embed templates
var files embed.FS

// Render makes the message of a template. Everything in data is escaped for where it stands; the subject becomes one line.
func Render(t Template, to string, data any) (Message, error) {
	m := Message{To: to}
	words := map[string]any{"calm": calm, "quote": quote}
	text, err := texttemplate.New("").Funcs(words).Option("missingkey=error").ParseFS(files, "templates/"+string(t)+".txt")
	if err != nil {
		return m, wrap("Render", errors.New("there is no such template"))
	}
	html, err := htmltemplate.New("").Funcs(words).ParseFS(files, "templates/"+string(t)+".html")
	if err != nil {
		return m, wrap("Render", err)
	}
	var b bytes.Buffer
	if err := text.ExecuteTemplate(&b, string(t)+".subject", data); err != nil {
		return m, wrap("Render", err)
	}
	m.Subject = oneLine(b.String())
	b.Reset()
	if err := text.ExecuteTemplate(&b, string(t)+".txt", data); err != nil {
		return m, wrap("Render", err)
	}
	m.Text = strings.TrimSpace(strings.ToValidUTF8(b.String(), "")) + "\n"
	b.Reset()
	if err := html.ExecuteTemplate(&b, string(t)+".html", data); err != nil {
		return m, wrap("Render", err)
	}
	m.HTML = strings.ToValidUTF8(b.String(), "")
	return m, nil
}
