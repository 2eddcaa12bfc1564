package mail

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"net/http"
	"path"
	"regexp"
	"strconv"
	"sync"
	"time"
)

// Inbox catches mail instead of sending it, for `avouch dev`: the last few messages in memory, served as pages.
type Inbox struct {
	prefix string
	now    func() time.Time
	mu     sync.Mutex
	all    []Caught // the oldest first
	last   int
}

// Caught is a message in the inbox.
type Caught struct {
	N  int // counts from 1
	At time.Time
	Message
}

// inboxSize is how many messages are kept.
const inboxSize = 100

// NewInbox makes an inbox whose pages are under a path, such as /dev/inbox.
func NewInbox(prefix string, now func() time.Time) *Inbox { return &Inbox{prefix: prefix, now: now} }

// Send keeps the message, under the same rules as one that is sent.
func (b *Inbox) Send(_ context.Context, m Message) error {
	if _, err := m.check(); err != nil {
		return &Error{Permanent: true, says: err.Error()}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last++
	b.all = append(b.all, Caught{b.last, b.now().UTC(), m})
	if len(b.all) > inboxSize {
		b.all = append([]Caught(nil), b.all[1:]...)
	}
	return nil
}

// Messages are the messages in the inbox, the newest first.
func (b *Inbox) Messages() []Caught {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]Caught, len(b.all))
	for i, m := range b.all {
		out[len(out)-1-i] = m
	}
	return out
}

var (
	//go:embed inbox.html
	inboxPage string
	//go:embed inbox.css
	inboxStyle string
)

// piece is a part of a text: an address to follow, or what is between two.
type piece struct {
	Text string
	Link bool
}

// addresses are those that browsers open; what ends a sentence is not part of one.
var addresses = regexp.MustCompile(`https?://[^\s<>"']*[^\s<>"'.,;:!?)]`)

func pieces(text string) (all []piece) {
	end := 0
	for _, at := range addresses.FindAllStringIndex(text, -1) {
		all = append(all, piece{Text: text[end:at[0]]}, piece{Text: text[at[0]:at[1]], Link: true})
		end = at[1]
	}
	return append(all, piece{Text: text[end:]})
}

// ServeHTTP answers the prefix itself with the list, and a number under it with the message.
func (b *Inbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	page := struct {
		Prefix string
		Style  template.CSS
		All    []Caught
		One    *Caught
		Parts  []piece // of its text
	}{Prefix: b.prefix, Style: template.CSS(inboxStyle), All: b.Messages()}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "GET only", http.StatusMethodNotAllowed)
		return
	}
	if at := path.Clean(r.URL.Path); at != path.Clean(b.prefix) {
		n, err := strconv.Atoi(path.Base(at))
		for i := range page.All {
			if err == nil && path.Dir(at) == path.Clean(b.prefix) && page.All[i].N == n {
				page.One, page.Parts = &page.All[i], pieces(page.All[i].Text)
			}
		}
		if page.One == nil {
			http.NotFound(w, r)
			return
		}
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	// Messages are shown as text. Should one ever get out of that, it still loads and runs nothing. The one style is named by
	// its hash.
	sum := sha256.Sum256([]byte(inboxStyle))
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	// What fails here is the connection: there is nobody left to tell.
	_ = template.Must(template.New("inbox").Parse(inboxPage)).Execute(w, page)
}
