package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"slices"

	"github.com/avouch-dev/avouch/internal/client"
)

// faultView is a part that cannot be read.
type faultView struct {
	Place string `json:"place"`
	Why   string `json:"why"`
}

// importView is what became of an import, or would.
type importView struct {
	Format string `json:"format"`
	DryRun bool   `json:"dry_run"`
	New    int64  `json:"new"`
	Items  []struct {
		Name      string  `json:"name"`
		Type      string  `json:"type"`
		Duplicate bool    `json:"duplicate"`
		ItemID    *string `json:"item_id"`
	} `json:"items"`
	Faults []faultView `json:"faults"`
	Others int64       `json:"others"`
}

// mostFiles is how many the server reads together.
const mostFiles = 100

type vaultImport struct {
	asker        `embed:""`
	Files        []string `arg:"" name:"file" help:"What the other program wrote, or a picture of a QR code; - is standard input. Several are pictures or lines of addresses that belong together."`
	Format       string   `enum:",uri,qr,aegis,2fas,bitwarden,csv,avouch,age" default:"" placeholder:"FORMAT" help:"uri, qr, aegis, 2fas, bitwarden, csv, avouch or age; guessed if left out. Of several files that of the first."`
	DryRun       bool     `help:"Show what would become of it, and keep nothing."`
	Folder       string   `placeholder:"FOLDER" help:"For what has none."`
	PasswordFile string   `placeholder:"FILE" help:"File with the password of what is encrypted, for its owner alone (mode 0600); - is standard input."`
}

// Help is shown under the usage.
func (*vaultImport) Help() string {
	return `Of what the vault has already nothing is made anew. If a part cannot be read nothing is kept, and a dry run ends with exit code 1. Delete the file afterwards: it holds the secrets. An export of Google Authenticator is in several pictures: name all of them, in any order.

    avouch vault import aegis.json --dry-run
    avouch vault import aegis.json --password-file aegis.password --folder phone
    avouch vault import screen1.png screen2.png screen3.png`
}

// Run imports.
func (c *vaultImport) Run(ctx context.Context, g *globals) error {
	named := slices.Clone(c.Files)
	if c.PasswordFile != "" {
		named = append(named, c.PasswordFile)
	}
	if err := c.distinct(named...); err != nil {
		return err
	}
	if len(c.Files) > mostFiles {
		return misused("%d files are more than are read at once: %d", len(c.Files), mostFiles)
	}
	asks, err := c.begin(g)
	if err != nil {
		return err
	}
	body := map[string]any{"encoding": "base64", "dry_run": c.DryRun}
	for name, value := range map[string]string{"format": c.Format, "folder": c.Folder} {
		if value != "" {
			body[name] = value
		}
	}
	if c.PasswordFile != "" {
		password, err := credentialIn(g, c.PasswordFile, "password")
		if err != nil {
			return err
		}
		body["password"] = password.Expose()
	}
	if err := c.read(g, body); err != nil {
		return err
	}
	kept, err := c.send(ctx, g, asks, body)
	warnOfOpen(g, kept, c.Files...)
	return err
}

// send imports, and says whether what the files held is in the vault now.
func (c *vaultImport) send(ctx context.Context, g *globals, asks *asking, body map[string]any) (kept bool, err error) {
	answer, err := asks.do(ctx, client.Call{Method: http.MethodPost, Path: api("vault", "import"), Body: body})
	if err != nil {
		return false, err
	}
	var v importView
	if err := answer.Into(&v); err != nil {
		return false, err
	}
	if err := show(g, answer.Body, func(p page, v importView) error { return v.print(p) }); err != nil {
		return false, err
	}
	if len(v.Faults) > 0 {
		return false, &exit{code: exitFalse}
	}
	return !v.DryRun && len(v.Items) > 0, nil
}

// read puts the files into the body.
func (c *vaultImport) read(g *globals, body map[string]any) error {
	var more []map[string]string
	for k, file := range c.Files {
		data, err := readInput(g, file, "what is to be imported")
		if err != nil {
			return err
		}
		text := base64.StdEncoding.EncodeToString(data)
		clear(data)
		if k == 0 {
			body["data"] = text
		} else {
			more = append(more, map[string]string{"data": text, "encoding": "base64"})
		}
	}
	if more != nil {
		body["more"] = more
	}
	return nil
}

func (v importView) print(p page) error {
	t := table{columns: []column{{name: "what"}, {name: "type"}, {name: "name", soft: true}, {name: "item"}}}
	duplicates := int64(0)
	for _, i := range v.Items {
		what := cell{"new", good}
		if i.Duplicate {
			what = cell{"duplicate", faint}
			duplicates++
		}
		t.rows = append(t.rows, []cell{what, {text: i.Type}, {text: i.Name}, {text: deref(i.ItemID)}})
	}
	for _, f := range v.Faults {
		t.rows = append(t.rows, []cell{{"fault", bad}, {}, {text: f.Place + ": " + f.Why}, {}})
	}
	if v.DryRun {
		t.drop(3)
	}
	if len(t.rows) > 0 {
		if err := t.write(p); err != nil {
			return err
		}
	}
	says := fmt.Sprintf("%s: %s new, %s, %s.", v.Format, grouped(v.New), plural(duplicates, "duplicate", "duplicates"), plural(int64(len(v.Faults)), "fault", "faults"))
	if v.Others > 0 {
		says += " " + plural(v.Others, "other part holds no secret.", "other parts hold no secret.")
	}
	switch {
	case v.DryRun && len(v.Faults) > 0:
		says += " Nothing is kept as long as there are faults."
	case v.DryRun:
		says += " Nothing was kept: it was a dry run."
	}
	_, err := fmt.Fprintln(p.to, clean(says))
	return err
}

type vaultExport struct {
	asker          `embed:""`
	Items          []string `arg:"" name:"item" help:"The items' ids, or their names."`
	Out            string   `required:"" placeholder:"FILE" help:"The new file to write them to, for its owner alone. Nothing is written over."`
	Reason         string   `required:"" placeholder:"TEXT" help:"Why: the log keeps it, and every owner is told of the export."`
	Format         string   `enum:"avouch,uri,csv" default:"avouch" placeholder:"FORMAT" help:"avouch, which holds everything, or uri or csv, which hold seeds of codes alone."`
	Recipient      []string `xor:"how" placeholder:"AGE1..." help:"Encrypt it for this public key of age; repeat it."`
	PassphraseFile string   `xor:"how" placeholder:"FILE" help:"Encrypt it under the passphrase in this file, of 12 characters or more, for its owner alone (mode 0600); - is standard input."`
	Clear          bool     `xor:"how" help:"Do not encrypt it."`
}

// Help is shown under the usage.
func (*vaultExport) Help() string {
	return `For a person who proved themselves in the last five minutes, and to whom the level seed was granted on each item, by somebody else. Of --recipient, --passphrase-file and --clear it takes one. Where a second person must approve, or only the use was granted, ask for it first: avouch vault request ITEM --level seed --reason TEXT.

    avouch vault export "AWS root" --reason "The safe" --recipient age1... --out safe.age
    age -d -i key.txt safe.age`
}

// Run exports.
func (c *vaultExport) Run(ctx context.Context, g *globals) error {
	if c.Recipient == nil && c.PassphraseFile == "" && !c.Clear {
		return misused("give one of --recipient, --passphrase-file and --clear")
	}
	if c.PassphraseFile != "" {
		if err := c.distinct(c.PassphraseFile); err != nil {
			return err
		}
	}
	asks, err := c.begin(g)
	if err != nil {
		return err
	}
	body := map[string]any{"format": c.Format, "reason": c.Reason, "clear": c.Clear}
	if c.Recipient != nil {
		body["recipients"] = c.Recipient
	}
	if c.PassphraseFile != "" {
		passphrase, err := credentialIn(g, c.PassphraseFile, "passphrase")
		if err != nil {
			return err
		}
		body["passphrase"] = passphrase.Expose()
	}
	ids := make([]string, len(c.Items))
	for k, item := range c.Items {
		if ids[k], err = asks.find(ctx, item); err != nil {
			return err
		}
	}
	body["items"] = ids
	file, err := os.OpenFile(c.Out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
		return misused("%s is there, and is not written over: name a file that is not. Nothing was exported", c.Out)
	case err != nil:
		return lacks("the file cannot be made: %w", err)
	}
	answer, err := asks.do(ctx, client.Call{Method: http.MethodPost, Path: api("vault", "export"), Body: body})
	if err == nil {
		return c.write(g, file, answer)
	}
	file.Close()
	os.Remove(c.Out)
	return err
}

// write puts what was exported into its file, and shows the rest of the answer.
func (c *vaultExport) write(g *globals, file *os.File, answer client.Answer) error {
	var v struct {
		Format   string   `json:"format"`
		Data     string   `json:"data"`
		Encoding string   `json:"encoding"`
		Items    []string `json:"items"`
	}
	err := answer.Into(&v)
	clear(answer.Body)
	data := []byte(v.Data)
	if err == nil && v.Encoding == "base64" {
		data, err = base64.StdEncoding.DecodeString(v.Data)
	}
	if err == nil {
		_, err = file.Write(data)
	}
	if err == nil {
		err = file.Sync()
	}
	clear(data)
	if err := errors.Join(err, file.Close()); err != nil {
		return lacks("it was exported, which the log says, and could not be written: %w", err)
	}
	if g.JSON {
		return encode(g.Out, map[string]any{"format": v.Format, "file": c.Out, "encrypted": !c.Clear, "items": v.Items})
	}
	how := "encrypted"
	if c.Clear {
		how = "in clear: whoever reads it has the secrets"
	}
	p := g.page()
	_, err = fmt.Fprintf(p.to, "exported: %s in %s, %s. Every owner is told.\n", plural(int64(len(v.Items)), "item", "items"), clean(c.Out), how)
	return err
}
