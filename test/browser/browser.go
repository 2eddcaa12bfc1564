// Package browser drives Debian's Chromium in tests, as people use it: it types, clicks and looks. Only tests import it.
//
// Nothing that it opens reaches another machine: every host but this one is unknown to it.
package browser

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto"
	cdpbrowser "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
)

// Tab is a page of a browser that nobody else has.
type Tab struct {
	t   testing.TB
	ctx context.Context

	mu     sync.Mutex
	faults []string
	asked  []string
}

// patience bounds one step: machines of CI stand still for seconds.
const patience = time.Minute

// Trusting makes the browser trust an authority of certificates beside those that it knows, as its user could.
func Trusting(t testing.TB, authorityPEM string) chromedp.ExecAllocatorOption {
	t.Helper()
	if _, err := exec.LookPath("certutil"); err != nil {
		missing(t, "certutil")
	}
	home := t.TempDir()
	db := filepath.Join(home, ".pki", "nssdb")
	if err := os.MkdirAll(db, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"-N", "--empty-password"}, {"-A", "-t", "C,,", "-n", "authority", "-i", authorityPEM}} {
		if out, err := exec.CommandContext(t.Context(), "certutil", append([]string{"-d", "sql:" + db}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("certutil: %v: %s", err, out)
		}
	}
	return chromedp.Env("HOME=" + home)
}

func missing(t testing.TB, program string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("there is no %s: scripts/setup-chromium.sh", program)
	}
	t.Skipf("skipped: there is no %s: scripts/setup-chromium.sh", program)
}

// Open starts a browser without a past, which ends with the test. It skips the test if there is none, and fails it in CI.
func Open(t testing.TB, more ...chromedp.ExecAllocatorOption) *Tab {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		missing(t, "Chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.DisableGPU, chromedp.WSURLReadTimeout(patience),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"))
	options = append(options, more...)
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium's own refuses root
	}
	b := &Tab{t: t}
	ctx, stop := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), options...)
	ctx, cancel := chromedp.NewContext(ctx, chromedp.WithListener(b.hear))
	b.ctx = ctx
	t.Cleanup(func() {
		end, late := context.WithTimeout(ctx, patience)
		defer late()
		_ = chromedp.Cancel(end) // it has no more to say than that it is gone
		cancel()
		stop()
	})
	if err := chromedp.Do(ctx); err != nil { // without a limit of time: the browser lives as long as the context of its first step
		t.Fatalf("Chromium does not start: %v", err)
	}
	call(b, log.Enable, cdp.Empty{})
	call(b, runtime.Enable, cdp.Empty{})
	call(b, network.Enable, network.EnableParams{})
	return b
}

// hear keeps what went wrong in a page, and which requests it made.
func (b *Tab) hear(ev any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch ev := ev.(type) {
	case *runtime.EventExceptionThrown:
		what := ev.ExceptionDetails.Text
		if e := ev.ExceptionDetails.Exception; e != nil {
			what += " " + e.Description
		}
		b.faults = append(b.faults, what)
	case *log.EventEntryAdded:
		// A refusal by the API is an entry too: what a page makes of it is looked at where it shows.
		if ev.Entry.Level == log.EntryLevelError && ev.Entry.Source != log.EntrySourceNetwork {
			b.faults = append(b.faults, ev.Entry.Text+" "+ev.Entry.URL)
		}
	case *network.EventRequestWillBeSent:
		b.asked = append(b.asked, fmt.Sprintf("%s %s referrer %v", ev.Request.Method, ev.Request.URL, ev.Request.Headers["Referer"]))
	}
}

// Faults are the exceptions, and what the browser refused to load or run, so far.
func (b *Tab) Faults() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.faults...)
}

// Asked are the requests so far, as they are sent: method, address, referrer.
func (b *Tab) Asked() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.asked...)
}

// call runs a command of the browser's protocol.
func call[P, R any](b *Tab, command cdp.Command[P, R], params P) R {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	r, err := chromedp.Call(ctx, command, params)
	if err != nil {
		b.fail(err)
	}
	return r
}

// do runs steps.
func (b *Tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	b.again(func(ctx context.Context) error { return chromedp.Do(ctx, actions...) })
}

// again does something, once more if it was about a page that has just gone, or that went elsewhere by itself meanwhile.
func (b *Tab) again(do func(context.Context) error) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	for {
		err := do(ctx)
		if err == nil {
			return
		}
		if !passes(err) || ctx.Err() != nil {
			b.fail(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// passes says whether an error is of two pages that crossed: the one before, still under way, puts off a load as "aborted".
func passes(err error) bool {
	var gone *cdproto.Error
	var load *chromedp.LoadError
	return errors.As(err, &gone) || errors.As(err, &load) && load.ErrorText == "net::ERR_ABORTED"
}

func (b *Tab) fail(why any) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	says, _ := chromedp.Run(ctx, chromedp.Evaluate[string](`location.pathname + '\n' + document.body.innerText`))
	b.t.Fatalf("%v\nthe page says: %s\nfaults: %q", why, says, b.Faults())
}

// Go opens an address.
func (b *Tab) Go(url string) { b.t.Helper(); b.do(chromedp.Navigate(url)) }

// Fill types into a field, in place of what was there.
func (b *Tab) Fill(selector, text string) {
	b.t.Helper()
	b.Sees(selector)
	Value[bool](b, fmt.Sprintf(`(() => { const f = document.querySelector(%q); f.value = ''; f.focus(); return true; })()`, selector))
	b.do(chromedp.SendKeys(chromedp.CSS(selector), text))
}

// Click clicks what is there, once it can be clicked.
func (b *Tab) Click(selector string) {
	b.t.Helper()
	at := chromedp.CSS(selector)
	b.do(chromedp.WaitVisible(at), chromedp.WaitEnabled(at), chromedp.Click(at))
}

// Sees waits until something shows.
func (b *Tab) Sees(selector string) { b.t.Helper(); b.do(chromedp.WaitVisible(chromedp.CSS(selector))) }

// Says waits until the text of something holds a part.
func (b *Tab) Says(selector, part string) {
	b.t.Helper()
	b.Until(fmt.Sprintf(`(document.querySelector(%q)?.innerText ?? '').includes(%q)`, selector, part))
}

// Until waits until an expression of JavaScript is true, also across pages.
func (b *Tab) Until(expression string) {
	b.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(b.ctx, patience)
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`Boolean(`+expression+`)`))
		cancel()
		if err == nil && ok { // between two pages there is none to ask
			return
		}
	}
	b.fail("it never became true: " + expression)
}

// Value is what an expression of JavaScript gives, or the promise that it gives: of the next page, if this one goes meanwhile.
func Value[T any](b *Tab, expression string) (v T) {
	b.t.Helper()
	b.again(func(ctx context.Context) (err error) {
		v, err = chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
		return err
	})
	return v
}

// Text is what something says.
func (b *Tab) Text(selector string) string {
	b.t.Helper()
	b.Sees(selector)
	return strings.TrimSpace(Value[string](b, fmt.Sprintf(`document.querySelector(%q).innerText`, selector)))
}

// Size makes the window that large, and light or dark.
func (b *Tab) Size(width, height int64, scheme string) {
	b.t.Helper()
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1, Mobile: width < 600})
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}, // nothing is half way from one look to another
	}})
}

// Shot is a picture of the window, PNG.
func (b *Tab) Shot() []byte {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.fail(err)
	}
	return png
}

// Authenticator gives the browser an authenticator with room for passkeys, which agrees to everything, and verifies who holds it
// or cannot.
func (b *Tab) Authenticator(verifies bool) webauthn.AuthenticatorID {
	b.t.Helper()
	call(b, webauthn.Enable, webauthn.EnableParams{})
	return call(b, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
		Protocol: webauthn.AuthenticatorProtocolCtap2, Ctap2version: webauthn.Ctap2versionCtap21, Transport: webauthn.AuthenticatorTransportInternal,
		HasResidentKey: true, HasUserVerification: verifies, IsUserVerified: verifies, AutomaticPresenceSimulation: true,
	}}).AuthenticatorID
}

// Saves makes the browser keep what it is given to download, in a directory.
func (b *Tab) Saves(dir string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	allow := cdpbrowser.SetDownloadBehaviorParams{Behavior: cdpbrowser.SetDownloadBehaviorBehaviorAllow, DownloadPath: dir}
	if _, err := chromedp.CallBrowser(ctx, cdpbrowser.SetDownloadBehavior, allow); err != nil {
		b.fail(err)
	}
}

// Cookies are those that the browser would send to the page that it shows, or to these addresses.
func (b *Tab) Cookies(addresses ...string) []*network.Cookie {
	b.t.Helper()
	return call(b, network.GetCookies, network.GetCookiesParams{URLs: addresses}).Cookies
}
