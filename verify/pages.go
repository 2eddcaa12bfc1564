package verify

import (
	"bytes"
	"context"
	_ "embed" // the pages
	"encoding/json"
	"html/template"
	"net/http"
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
	Statement string
}

func (r *Room) verified(w http.ResponseWriter, req *http.Request) {
	page := shown{Asked: req.URL.Query().Has("service")}
	if t, err := tenantdb.ParseTenantID(req.URL.Query().Get("service")); err == nil {
		if err := r.show(req.Context(), t, &page); err != nil {
			http.Error(w, "The page cannot be made now. Try again shortly.", http.StatusServiceUnavailable)
			return
		}
	}
	var b bytes.Buffer
	if err := verifiedPage.Execute(&b, page); err != nil {
		http.Error(w, "The page cannot be made now.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	w.Write(b.Bytes())
}

const readable = "2 January 2006, 15:04 UTC"

// show fills the page of a service that lets its verifications be seen.
func (r *Room) show(ctx context.Context, t tenantdb.TenantID, page *shown) error {
	var found recency
	err := r.cfg.DB.Read(ctx, tenantdb.System(t, "verified"), func(tx *tenantdb.ReadTx) (err error) {
		found, err = lastVerification(ctx, tx)
		return err
	})
	if err != nil || found.name == "" {
		return err
	}
	page.Service = found.name
	if found.at.IsZero() {
		return nil
	}
	now := r.cfg.Now().UTC()
	until := now.Add(10 * time.Minute)
	page.Last, page.Log, page.Seq, page.Leaf = found.at.UTC().Format(readable), found.log.String(), found.seq, found.leaf
	page.Made, page.Until = now.Format(readable), until.Format("15:04 UTC")
	claims, err := json.Marshal(map[string]any{
		"iss": r.cfg.Issuer, "sub": t.String(), "iat": now.Unix(), "exp": until.Unix(), "service": found.name,
		"last_verification": found.at.UTC().Format(time.RFC3339), "log": found.log.String(), "seq": found.seq, "leaf": found.leaf,
	})
	if err != nil {
		return err
	}
	page.Statement, err = r.cfg.Signing.Sign(keyring.TypeVerified, claims)
	return err
}
