package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"runtime"
	"time"

	"github.com/avouch-dev/avouch/internal/client"
	"github.com/avouch-dev/avouch/org"
	"github.com/avouch-dev/avouch/server"
)

// orgsKMS is `avouch organisations kms`.
type orgsKMS struct {
	Show   kmsShow   `cmd:"" help:"Show under which key management your organisation's keys are."`
	Check  kmsCheck  `cmd:"" help:"Try your organisation's own key management."`
	Set    kmsSet    `cmd:"" help:"Put your organisation's keys under its own key management."`
	Remove kmsRemove `cmd:"" help:"Give your organisation's keys back to the platform."`
	Status kmsStatus `cmd:"" help:"Show an organisation's key management, also while that keeps it closed. For the operator."`
	Repair kmsRepair `cmd:"" help:"Take another credential or address for the key management of an organisation that is closed. For the operator."`
}

type kmsView struct {
	Kind      string    `json:"kind"`
	KeyID     string    `json:"key_id"`
	SetBy     string    `json:"set_by"`
	SetAt     time.Time `json:"set_at"`
	Open      bool      `json:"open"`
	OpenUntil time.Time `json:"open_until"`
	Why       string    `json:"why"`
	Since     time.Time `json:"since"`
	Moving    bool      `json:"moving"`
}

func (k kmsView) details(now time.Time) []detail {
	if k.Kind == "platform" {
		return []detail{{"key management", cell{text: "the platform's"}}}
	}
	state := "open"
	if !k.Open {
		state = "closed"
	}
	all := []detail{{"key management", cell{k.Kind, bold}}, {"key", cell{text: k.KeyID}}, {"state", cell{text: state}}}
	if k.Why != "" {
		all = append(all, detail{"of no use", cell{text: k.Why + ", since " + instant(k.Since, now)}})
	}
	if k.Moving {
		all = append(all, detail{"keys", cell{text: "on their way"}})
	}
	if k.SetBy == "" { // its settings are lost
		return all
	}
	return append(all, detail{"set", cell{text: instant(k.SetAt, now) + ", by " + k.SetBy}})
}

func showKMS(g *globals, raw json.RawMessage) error {
	return show(g, raw, func(p page, k kmsView) error { return writeDetails(p, "", k.details(g.Now())) })
}

// ask sends a request about the caller's own key management.
func (r *remote) askKMS(ctx context.Context, g *globals, method string, body any, more ...string) error {
	answer, err := r.do(ctx, g, client.Call{Method: method, Path: api(append([]string{"organisation", "kms"}, more...)...), Body: body})
	if err != nil {
		return err
	}
	return showKMS(g, answer.Body)
}

type kmsShow struct {
	remote `embed:""`
}

// Run shows it.
func (c *kmsShow) Run(ctx context.Context, g *globals) error {
	return c.askKMS(ctx, g, http.MethodGet, nil)
}

type kmsCheck struct {
	remote `embed:""`
}

// Run tries it.
func (c *kmsCheck) Run(ctx context.Context, g *globals) error {
	return c.askKMS(ctx, g, http.MethodPost, nil, "check")
}

// kmsSettings is a file with how a key management is reached: it holds a credential, which no argument may.
type kmsSettings struct {
	Settings string `required:"" placeholder:"FILE" help:"JSON as the body of PUT /api/v1/organisation/kms, in a file for its owner alone; - is standard input."`
}

const mostSettings = 64 << 10

func (c *kmsSettings) read(g *globals) (body org.KMSBody, err error) {
	from := g.In
	if c.Settings != "-" {
		f, err := os.Open(c.Settings)
		if err != nil {
			return body, lacks("the settings cannot be read: %w", err)
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return body, lacks("the settings cannot be read: %w", err)
		}
		if mode := info.Mode(); runtime.GOOS != "windows" && mode.IsRegular() && mode.Perm()&0o077 != 0 {
			return body, lacks("the settings are open to others (mode %04o): chmod 600 %s, and replace the credential in them if somebody may have read it", mode.Perm(), c.Settings)
		}
		from = f
	}
	b, err := io.ReadAll(io.LimitReader(from, mostSettings))
	if err != nil {
		return body, lacks("the settings cannot be read: %w", err)
	}
	defer clear(b)
	strict := json.NewDecoder(bytes.NewReader(b))
	strict.DisallowUnknownFields()
	if strict.Decode(&body) != nil { // whose error may quote them
		return body, misused("the settings are not as the API describes them: see set-kms in the server's /docs")
	}
	return body, nil
}

type kmsSet struct {
	remote      `embed:""`
	kmsSettings `embed:""`
}

// Help is the long text.
func (*kmsSet) Help() string {
	return `It takes an owner in person: put the access token of somebody who has proved themselves in the last five minutes into AVOUCH_ACCESS_TOKEN, or into the file that --access-token-file names. A program gets one by signing in (docs/people.md). The key management is tried first. From then on nothing of the organisation opens without it.

    echo '{"kind":"transit","transit":{"address":"https://bao.example.com:8200","key":"avouch","token":"..."}}' > kms.json`
}

// Run sets it.
func (c *kmsSet) Run(ctx context.Context, g *globals) error {
	body, err := c.read(g)
	if err != nil {
		return err
	}
	return c.askKMS(ctx, g, http.MethodPut, body)
}

type kmsRemove struct {
	remote `embed:""`
	Yes    bool `required:"" help:"Yes, the platform is to open the keys by itself again."`
}

// Run removes it.
func (c *kmsRemove) Run(ctx context.Context, g *globals) error {
	return c.askKMS(ctx, g, http.MethodDelete, nil)
}

type kmsStatus struct {
	operatorName `embed:""`
	Tenant       string `arg:"" name:"tenant-id" help:"Whose."`
}

// Help is the long text.
func (*kmsStatus) Help() string { return operatorOnly + " The key management is asked." }

// Run shows it.
func (c *kmsStatus) Run(ctx context.Context, g *globals) error {
	by, err := c.organisation(g, c.Tenant)
	if err != nil {
		return err
	}
	return operate(ctx, g, func(s *server.Server) error {
		state, err := s.Org.GetKMS(ctx, by)
		if err != nil {
			return refusal(err)
		}
		return g.kmsState(state)
	})
}

type kmsRepair struct {
	operatorName `embed:""`
	Tenant       string `arg:"" name:"tenant-id" help:"Whose."`
	kmsSettings  `embed:""`
}

// Help is the long text.
func (*kmsRepair) Help() string {
	return operatorOnly + ` For an organisation whose key management is there and cannot be used, since its credential ended, its address changed, or a database of before was restored: nobody of it can sign in to say so. The organisation gives the settings; they are taken only if they open its key, which takes its key management. You see nothing by it. It is in the organisation's log, and its owners are told.`
}

// Run repairs it.
func (c *kmsRepair) Run(ctx context.Context, g *globals) error {
	by, err := c.organisation(g, c.Tenant)
	if err != nil {
		return err
	}
	body, err := c.read(g)
	if err != nil {
		return err
	}
	settings, err := body.Settings()
	if err != nil {
		return refusal(err)
	}
	return operate(ctx, g, func(s *server.Server) error {
		state, err := s.Org.RepairKMS(ctx, by, settings)
		if err != nil {
			return refusal(err)
		}
		return g.kmsState(state)
	})
}

func (g *globals) kmsState(s org.KMSState) error {
	raw, err := json.Marshal(s.View())
	if err != nil {
		return err
	}
	return showKMS(g, raw)
}
