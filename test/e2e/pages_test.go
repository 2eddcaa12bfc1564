package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base32"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"

	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/mail/mailtest"
	"github.com/avouch-dev/avouch/server"
	"github.com/avouch-dev/avouch/test/browser"
)

// people is a server that people use by its pages, and the server that takes the mail to them.
type people struct {
	*node
	t    testing.TB
	in   *installation
	mail *mailtest.Server
	site string // as browsers call it: a passkey is bound to a name
}

func openPeople(t testing.TB, set ...func(*server.Config)) *people {
	t.Helper()
	p := &people{t: t, in: install(t), mail: (&mailtest.Server{StartTLS: true}).Start(t)}
	p.node = p.in.start(t, append(set, func(c *server.Config) {
		c.SignUp = true
		c.Mail = mail.Config{Server: p.mail.Address, From: "Avouch <avouch@example.com>", TLS: "starttls", CAFile: p.mail.CAFile}
		c.PublicURL = strings.Replace(c.PublicURL, "127.0.0.1", "localhost", 1)
		p.site = c.PublicURL
	})...)
	return p
}

// signUp makes an organisation, and returns the address of the page where its first owner joins.
func (p *people) signUp(b *browser.Tab, name, address string) string {
	p.t.Helper()
	b.Go(p.site + "/sign-in")
	const ask = `fetch('/api/v1/organisations', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ name: %q, owner_address: %q }) }).then((r) => r.status)`
	if status := browser.Value[int](b, fmt.Sprintf(ask, name, address)); status != http.StatusCreated {
		p.t.Fatalf("signing up: %d", status)
	}
	return p.link(address, "/join")
}

// link is the link to a page in the last mail to somebody that has one.
func (p *people) link(address, page string) string {
	p.t.Helper()
	wanted := regexp.MustCompile(regexp.QuoteMeta(p.site+page+"#link=") + `\S+`)
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		all := p.mail.Received()
		for i := len(all) - 1; i >= 0; i-- {
			if _, text := all[i].Text(); strings.Contains(all[i].To, "<"+address+">") && wanted.MatchString(text) {
				return wanted.FindString(text)
			}
		}
	}
	p.t.Fatalf("no mail to %s has a link to %s", address, page)
	return ""
}

// code is what an authenticator app shows (RFC 6238), some steps ahead: each code counts once.
func code(t testing.TB, shown string, ahead int) string {
	t.Helper()
	return codeOf(t, shown, time.Now().Unix()/30+int64(ahead))
}

// codeOf is what the app shows in a step.
func codeOf(t testing.TB, shown string, step int64) string {
	t.Helper()
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ReplaceAll(shown, " ", ""))
	must(t, err)
	mac := hmac.New(sha1.New, key)
	must(t, binary.Write(mac, binary.BigEndian, step))
	sum := mac.Sum(nil)
	at := sum[len(sum)-1] & 15
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[at:at+4])&0x7fffffff%1000000)
}

const (
	firstPassword  = "a heron stands in cold water"
	secondPassword = "seven lanterns over the harbour"
)

// joinWithApp goes by an invitation's link into an account with an authenticator app, and returns the app's key and the
// recovery codes.
func joinWithApp(t testing.TB, b *browser.Tab, link string) (key string, recovery []string) {
	t.Helper()
	b.Go("about:blank")
	b.Go(link)
	b.Fill("#name", "Ada Lovelace")
	b.Fill("#new-password", firstPassword)
	b.Click("#start-form button.main")
	b.Click("[data-enrol=totp]")
	b.Fill("#enrol-name", "My phone")
	b.Click("#enrol-form button")
	key = b.Text("#totp-secret")
	b.Fill("#totp-code", code(t, key, 0))
	b.Click("#totp-form button")
	b.Sees("#recovery-codes li")
	recovery = browser.Value[[]string](b, `[...document.querySelectorAll('#recovery-codes li')].map((e) => e.textContent)`)
	b.Click("#codes-kept")
	b.Click("#codes-form button")
	b.Until(`location.pathname === '/account'`)
	b.Says("#me", "Ada Lovelace")
	return key, recovery
}

func password(b *browser.Tab, p *people, address, password string) {
	b.Go(p.site + "/sign-in")
	b.Fill("#address", address)
	b.Fill("#password", password)
	b.Click("#start-form button.main")
}

// TestPages goes with a browser through what people do: join by an invitation and set up an authenticator app, add a passkey and
// sign in by it alone, recover by mail with a recovery code, look after sessions and factors, and sign out.
func TestPages(t *testing.T) {
	t.Parallel()
	p := openPeople(t)
	b := browser.Open(t)
	b.Authenticator(true)
	const ada = "ada@example.com"
	_, recovery := joinWithApp(t, b, p.signUp(b, "Analytical Engines", ada))

	b.Click("#add-factor")
	b.Click("[data-enrol=passkey]")
	b.Fill("#enrol-name", "This laptop")
	b.Click("#enrol-form button")
	b.Click("#passkey-make")
	b.Says("#notice", "The factor is added")
	b.Says("#my-factors", "This laptop")
	b.Click("#sign-out")
	b.Until(`location.pathname === '/sign-in'`)
	b.Go(p.site + "/account")
	b.Until(`location.pathname === '/sign-in'`)

	b.Click("#with-passkey")
	b.Until(`location.pathname === '/account'`)
	b.Says("#me", ada)

	b.Click("#sign-out")
	b.Until(`location.pathname === '/sign-in'`)
	b.Go(p.site + "/recover")
	b.Fill("#address", ada)
	b.Click("#start-form button.main")
	b.Says("main", "Look into your mail")
	b.Go("about:blank")
	b.Go(p.link(ada, "/recover"))
	b.Fill("#new-password", secondPassword)
	b.Click("#renew-form button.main")
	b.Click("#use-recovery button")
	b.Fill("#recovery-code", "0000-0000-0000-0000")
	b.Click("#recovery-form button")
	b.Sees("#notice")
	b.Fill("#recovery-code", recovery[3])
	b.Click("#recovery-form button")
	b.Until(`location.pathname === '/account'`)

	password(b, p, ada, firstPassword)
	b.Says("#notice", "do not belong together")
	looks(t, p, ada)
	password(b, p, ada, secondPassword)
	b.Click("#factors li:nth-child(2) button")
	b.Until(`location.pathname === '/account'`)
	b.Says("#my-sessions", "this one")
	b.Click("#end-others")
	b.Click("#sure-yes")
	b.Until(`document.querySelectorAll('#my-sessions li').length === 1`)

	b.Fill("#old-password", secondPassword)
	b.Fill("#new-password", firstPassword)
	b.Click("#password-form button.main")
	b.Says("#notice", "The password is changed")
	b.Fill("#new-address", "countess@example.com")
	b.Click("#address-form button")
	b.Says("#notice", "A link is on its way to countess@example.com")
	b.Go("about:blank")
	b.Go(p.link("countess@example.com", "/account"))
	b.Says("#notice", "The address is yours now")
	b.Says("#me", "countess@example.com")

	b.Click("#my-factors li:nth-child(1) button[aria-label^=Remove]")
	b.Click("#sure-yes")
	b.Until(`document.querySelectorAll('#my-factors li').length === 1`)
	b.Click("#new-codes")
	b.Click("#sure-yes")
	b.Sees("#recovery-codes li")
	b.Click("#codes-kept")
	b.Click("#codes-form button")
	b.Says("#codes-left", "10 recovery codes are left")
	if f := b.Faults(); len(f) > 0 {
		t.Errorf("the browser complains: %q", f)
	}
	for _, asked := range b.Asked() {
		if !strings.Contains(asked, " "+p.site+"/") && !strings.Contains(asked, " blob:"+p.site) && !strings.Contains(asked, "about:blank") {
			t.Errorf("a page asked elsewhere: %s", asked)
		}
		for _, secret := range []string{"avl_", "ava_", "heron", "lanterns"} {
			if strings.Contains(asked, secret) {
				t.Errorf("a secret is in an address: %s", asked)
			}
		}
	}
}

// looks asks where a sign-in stands, as a browser does that a provider sent back: more often than there may be tries.
func looks(t testing.TB, p *people, address string) {
	t.Helper()
	begun := p.call(t, http.MethodPost, "/api/v1/sign-in", "", map[string]any{"address": address, "password": secondPassword}).want(t, http.StatusOK)
	for range 8 {
		a := p.call(t, http.MethodPost, "/api/v1/sign-in/continue", "", map[string]any{"attempt": begun.text("attempt"), "do": "look"}).want(t, http.StatusOK)
		if a.text("state") != "factor" || a.text("attempt") != begun.text("attempt") || !reflect.DeepEqual(a.Body["factors"], begun.Body["factors"]) || len(a.Header["Set-Cookie"]) > 0 {
			t.Errorf("it stands at %s, and began with %s", a.Raw, begun.Raw)
		}
	}
	p.call(t, http.MethodPost, "/api/v1/sign-in/continue", "", map[string]any{"attempt": "ava_" + strings.Repeat("A", 43), "do": "look"}).want(t, http.StatusUnauthorized)
}

// authority writes a certificate for localhost and for a provider, its key, and the certificate of the authority that vouches for it.
func authority(t testing.TB) (cert, key, ca string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		file := filepath.Join(dir, name)
		must(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return file
	}
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	above := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost", providerHost}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: above.NotBefore, NotAfter: above.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	aboveDER, err := x509.CreateCertificate(rand.Reader, above, above, &signer.PublicKey, signer)
	must(t, err)
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, above, &own.PublicKey, signer)
	must(t, err)
	ownDER, err := x509.MarshalPKCS8PrivateKey(own)
	must(t, err)
	return write("cert.pem", "CERTIFICATE", leafDER), write("key.pem", "PRIVATE KEY", ownDER), write("ca.pem", "CERTIFICATE", aboveDER)
}

// TestPagesOverTLS joins with a passkey, signs in by it, and proves it again, over TLS with an authority that the browser trusts; and
// looks at what the browser was given to keep.
func TestPagesOverTLS(t *testing.T) {
	t.Parallel()
	cert, key, ca := authority(t)
	p := openPeople(t, func(c *server.Config) {
		c.TLSCertFile, c.TLSKeyFile, c.PublicURL = cert, key, strings.Replace(c.PublicURL, "http:", "https:", 1)
	})
	b := browser.Open(t, browser.Trusting(t, ca))
	b.Authenticator(true)
	link := p.signUp(b, "Analytical Engines", "ada@example.com")
	b.Go("about:blank")
	b.Go(link)
	b.Fill("#name", "Ada Lovelace")
	b.Fill("#new-password", firstPassword)
	b.Click("#start-form button.main")
	b.Click("[data-enrol=passkey]")
	b.Click("#enrol-form button")
	b.Click("#passkey-make")
	b.Click("#codes-kept")
	b.Click("#codes-form button")
	b.Says("#me", "Ada Lovelace")
	b.Click("#sign-out")
	b.Until(`location.pathname === '/sign-in'`)
	if kept := b.Cookies(); slices.ContainsFunc(kept, func(c *network.Cookie) bool { return c.Name == "__Host-avouch" }) {
		t.Errorf("after signing out: %v", kept)
	}
	b.Click("#with-passkey")
	b.Says("#me", "ada@example.com")
	kept := b.Cookies()
	if len(kept) != 2 || browser.Value[string](b, `document.cookie`) != "" {
		t.Errorf("%d cookies, and scripts see %q", len(kept), browser.Value[string](b, `document.cookie`))
	}
	for _, c := range kept {
		if !c.HTTPOnly || !c.Secure || c.SameSite != network.CookieSameSiteLax || c.Path != "/" || c.Domain != "localhost" || !strings.HasPrefix(c.Name, "__Host-") {
			t.Errorf("a cookie: %+v", c)
		}
	}
	before := b.Cookies()
	password(b, p, "ada@example.com", firstPassword)
	b.Click("#factors button")
	b.Until(`location.pathname === '/account'`)
	b.Says("#me", "ada@example.com")
	session := func(all []*network.Cookie) string {
		i := slices.IndexFunc(all, func(c *network.Cookie) bool { return c.Name == "__Host-avouch" })
		return all[max(i, 0)].Value
	}
	if session(before) == session(b.Cookies()) {
		t.Error("the session's cookie is the same after another sign-in")
	}
	if f := b.Faults(); len(f) > 0 {
		t.Errorf("the browser complains: %q", f)
	}
}

// TestQRCode draws texts of all lengths that there is room for, and has another program read them.
func TestQRCode(t *testing.T) {
	t.Parallel()
	lines := []string{
		"otpauth://totp/Avouch:ada%40example.com?algorithm=SHA1&digits=6&issuer=Avouch&period=30&secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP",
		strings.Repeat("x", 412), strings.Repeat("x", 413), // the longest, and one that is too long
	}
	for n := 1; n <= 412; n += 6 {
		lines = append(lines, strings.Repeat("otpauth://totp/Söhne?secret=JBSWY3DPEHPK3PXP&", 12)[:n])
	}
	for i, line := range lines {
		lines[i] = strings.ToValidUTF8(line, "x")
	}
	var found []*struct {
		Size int
		Text string
	}
	script(t, "qr.mjs", strings.Join(lines, "\n"), &found)
	sizes := map[int]bool{}
	for i, line := range lines {
		switch f := found[i]; {
		case (f == nil) != (len(line) > 412):
			t.Errorf("%d bytes: %v", len(line), f)
		case f != nil && f.Text != line:
			t.Errorf("%d bytes were read as %q", len(line), f.Text)
		case f != nil:
			sizes[f.Size] = true
		}
	}
	if len(sizes) != 15 {
		t.Errorf("%d sizes of code were drawn, want 15", len(sizes))
	}
}
