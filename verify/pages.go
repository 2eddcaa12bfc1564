package verify

import (
	"bytes"
	"context"
	_ "embed" // the pages
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/keyring"
	"github.com/avouch-dev/avouch/tenantdb"
)

var (
	//go:embed badge.svg
	badgeSVG []byte
	//go:embed verified.css
	verifiedCSS []byte
	//go:embed verified.html
	verifiedHTML string

	verifiedPage = template.Must(template.New("verified").Parse(verifiedHTML))
)

func (r *Room) pages(api *web.API[tenantdb.Caller]) {
	static := func(id, path, kind string, body []byte) {
		api.Mount(web.Op{ID: id, Method: http.MethodGet, Path: path}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.Header().Set("Cache-Control", "public, max-age=3600")
			w.Header().Set("Cross-Origin-Resource-Policy", "cross-origin") // the badge is made to stand on other sites
			w.Write(body)
		}))
	}
	static("verified-badge", "/api/badge/verified.svg", "image/svg+xml", badgeSVG)
	static("verified-style", "/verified.css", "text/css; charset=utf-8", verifiedCSS)
	api.Mount(web.Op{ID: "verified", Method: http.MethodGet, Path: "/verified"}, http.HandlerFunc(r.verified))
}

// shown is what the public page says of a service.
type shown struct {
	Asked     bool
	Service   string
	Last      string
	Log, Leaf string // where that stands
	Seq       int64
	Made      string // when the statement was signed, and until when it is to be believed
	Until     string
	Text      string // what was signed, and the same with its signature, for programs
	JSON      string
	Issuer    string
}

// verified asks for the badge each time, so that one that is switched off is gone at once; the rest may be remembered.
func (r *Room) verified(w http.ResponseWriter, req *http.Request) {
	ctx, cancel := context.WithTimeout(req.Context(), r.front.limit)
	defer cancel()
	page, err := r.page(ctx, req)
	if err != nil {
		w.Header().Set("Retry-After", "5")
		http.Error(w, "The page cannot be made now. Try again shortly.", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store") // what is switched off must not live on elsewhere
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	w.Write(page)
}

func (r *Room) page(ctx context.Context, req *http.Request) ([]byte, error) {
	t, err := tenantdb.ParseTenantID(req.URL.Query().Get("service"))
	if err != nil {
		return render(shown{Asked: req.URL.Query().Has("service")})
	}
	b, shows, err := r.front.badge(ctx, r.cfg.DB, t)
	if err != nil {
		return nil, err
	}
	if !shows {
		return render(shown{Asked: true})
	}
	return r.front.page(ctx, t, b, func(ctx context.Context) (view, error) { return r.show(ctx, t, b) })
}

func render(page shown) ([]byte, error) {
	var b bytes.Buffer
	if err := verifiedPage.Execute(&b, page); err != nil {
		return nil, fmt.Errorf("verify: page: %w", err)
	}
	return b.Bytes(), nil
}

const (
	readable     = "2 January 2006, 15:04 UTC"
	statementFor = 10 * time.Minute
)

// show makes the page of a service that lets its verifications be seen.
func (r *Room) show(ctx context.Context, t tenantdb.TenantID, b badge) (view, error) {
	page := shown{Asked: true, Service: b.name, Log: b.log.String(), Issuer: r.cfg.Issuer}
	v := view{made: r.cfg.Now().UTC(), badge: b}
	var last recency
	err := r.cfg.DB.Read(ctx, tenantdb.System(t, "verified"), func(tx *tenantdb.ReadTx) (err error) {
		last, err = lastVerification(ctx, tx)
		return err
	})
	if err == nil && !last.at.IsZero() {
		v.kid, err = r.state(ctx, &page, t, last, v.made)
	}
	if err == nil {
		v.body, err = render(page)
	}
	return v, err
}

// state signs what the page says, and says so on it.
func (r *Room) state(ctx context.Context, page *shown, t tenantdb.TenantID, last recency, now time.Time) (kid string, err error) {
	until := now.Add(statementFor)
	page.Last, page.Seq, page.Leaf = last.at.UTC().Format(readable), last.seq, last.leaf
	page.Made, page.Until = now.Format(readable), until.Format("15:04 UTC")
	st, err := r.cfg.Signing.State(ctx, keyring.StatementVerified, []keyring.Line{
		{Name: "issuer", Value: r.cfg.Issuer}, {Name: "service id", Value: t.String()}, {Name: "service name", Value: inOneLine(page.Service)},
		{Name: "log", Value: page.Log}, {Name: "seq", Value: strconv.FormatInt(last.seq, 10)}, {Name: "leaf", Value: last.leaf},
		{Name: "verified at", Value: last.at.UTC().Format(time.RFC3339)}, {Name: "stated at", Value: now.Format(time.RFC3339)},
	}, until)
	if err != nil {
		return "", err
	}
	machine, err := json.Marshal(st)
	if err != nil {
		return "", err
	}
	page.Text, page.JSON = st.Text, string(machine)
	return st.KID, nil
}

// inOneLine is a name as a statement may have it: one with a line end could state lines of its own.
func inOneLine(name string) string {
	return strings.Map(func(c rune) rune {
		if keyring.EndsLine(c) {
			return '\uFFFD'
		}
		return c
	}, name)
}
