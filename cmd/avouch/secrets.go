package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/avouch-dev/avouch/internal/client"
)

// disclosure is where a secret goes that is shown once.
type disclosure struct {
	Quiet      bool   `short:"q" xor:"secret" help:"Print the secret alone, for a variable of the shell."`
	SecretFile string `placeholder:"FILE" xor:"secret" help:"Write the secret to this new file, for its owner alone, and do not print it."`
}

// open makes the file before the secret is made: a secret that cannot be kept would be lost.
func (d *disclosure) open(asJSON bool) (*os.File, error) {
	switch {
	case d.Quiet && asJSON:
		return nil, misused("--quiet prints the secret alone, and --json an object: give one of them")
	case d.SecretFile == "":
		return nil, nil
	}
	f, err := os.OpenFile(d.SecretFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil, misused("%s is there, and is not written over: name a file that is not, or move this one away. Nothing was made", d.SecretFile)
	case err != nil:
		return nil, lacks("the secret's file cannot be made: %w", err)
	}
	return f, nil
}

// shownOnce is what a disclosure is of.
type shownOnce struct {
	field string // of the answer
	name  string // for people
	note  string // what it is for
}

// made prints what was made, with the secret that is in one field of the answer, or puts that into its file. make is
// asked only once the file is there. human gives the details of the rest.
func (d *disclosure) made(g *globals, once shownOnce, make func() (client.Answer, error), human func(client.Answer) ([]detail, error)) error {
	file, err := d.open(g.JSON)
	if err != nil {
		return err
	}
	answer, err := make()
	if err != nil {
		if file != nil {
			file.Close()
			os.Remove(d.SecretFile)
		}
		return err
	}
	var body map[string]json.RawMessage
	var secret string
	if err := answer.Into(&body); err != nil {
		return err
	}
	if err := (client.Answer{Body: or(body[once.field], `""`)}).Into(&secret); err != nil {
		return err
	}
	shown := []detail{{once.name, cell{secret, bold}}, aside("The " + once.name + " is shown this once. " + once.note)}
	if file != nil {
		if err := keep(file, secret); err != nil {
			return err
		}
		delete(body, once.field)
		if answer.Body, err = json.Marshal(body); err != nil {
			return err
		}
		shown = []detail{{once.name, cell{text: "in " + d.SecretFile + ", and shown nowhere else"}}}
	}
	switch {
	case d.Quiet:
		_, err = fmt.Fprintln(g.Out, secret)
		return err
	case g.JSON:
		return printJSON(g.Out, answer.Body)
	}
	all, err := human(answer)
	if err != nil {
		return err
	}
	return writeDetails(g.page(), "", append(all, shown...))
}

func keep(file *os.File, secret string) error {
	_, err := fmt.Fprintln(file, secret)
	if err == nil {
		err = file.Sync()
	}
	if e := file.Close(); err == nil {
		err = e
	}
	if err != nil {
		return lacks("the secret was made and could not be written: revoke it and make another: %w", err)
	}
	return nil
}

// once is the key under which a request that makes something does so once.
type once struct {
	IdempotencyKey string `placeholder:"TEXT" help:"Sent again with the same text, the request makes nothing new and gets the first answer."`
}

func (o *once) header() map[string][]string {
	if o.IdempotencyKey == "" {
		return nil
	}
	return map[string][]string{"Idempotency-Key": {o.IdempotencyKey}}
}
