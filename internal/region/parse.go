package region

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"unicode/utf8"

	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/sms"
)

// regionName is what a region may be called: what fits the column of organisations, and is read alike by everyone.
var regionName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

// Parse reads the regions. Its errors hold names and no values.
func Parse(b []byte) (map[string]Region, error) {
	if !utf8.Valid(b) {
		return nil, errors.New("is not UTF-8")
	}
	all, err := members(b)
	if err != nil {
		return nil, err
	}
	regions := make(map[string]Region, len(all))
	for name, raw := range all {
		if !regionName.MatchString(name) {
			return nil, fmt.Errorf("%.40q cannot be the name of a region: small letters, digits and hyphens within, at most 32", name)
		}
		if regions[name], err = parseRegion(raw); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return regions, nil
}

func parseRegion(b []byte) (r Region, err error) {
	all, err := members(b)
	if err != nil {
		return r, err
	}
	for _, name := range []string{"kms", "objects"} {
		if _, there := all[name]; there {
			return r, fmt.Errorf("%s: a region cannot have that in this version: nothing would be kept there", name)
		}
	}
	if raw, there := all["mail"]; there {
		if r.Mail, err = parseMail(raw); err != nil {
			return r, fmt.Errorf("mail: %w", err)
		}
	}
	if raw, there := all["sms"]; there {
		if r.SMS, err = parseSMS(raw); err != nil {
			return r, fmt.Errorf("sms: %w", err)
		}
	}
	return r, unknown(all, "mail", "sms")
}

func parseSMS(b []byte) (*sms.Config, error) {
	var c sms.Config
	into := map[string]*string{
		"provider": &c.Provider, "url": &c.URL, "method": &c.Method, "headers_file": &c.HeadersFile, "body": &c.Body, "statuses": &c.Statuses,
		"account": &c.Account, "token_file": &c.TokenFile, "from": &c.From, "ca_file": &c.CAFile,
	}
	if err := texts(b, into); err != nil {
		return nil, err
	}
	if c.Provider == "" {
		return nil, errors.New("provider is missing")
	}
	return &c, nil
}

func parseMail(b []byte) (*mail.Config, error) {
	var c mail.Config
	into := map[string]*string{"server": &c.Server, "from": &c.From, "user": &c.User, "password_file": &c.PasswordFile, "tls": &c.TLS, "ca_file": &c.CAFile}
	if err := texts(b, into); err != nil {
		return nil, err
	}
	for _, name := range []string{"server", "from"} {
		if *into[name] == "" {
			return nil, fmt.Errorf("%s is missing", name)
		}
	}
	return &c, nil
}

// texts reads an object of texts.
func texts(b []byte, into map[string]*string) error {
	all, err := members(b)
	if err != nil {
		return err
	}
	for name, raw := range all {
		if into[name] == nil {
			continue
		}
		if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, into[name]) != nil {
			return fmt.Errorf("%s is not a text", name)
		}
	}
	return unknown(all, slices.Collect(maps.Keys(into))...)
}

// members reads one JSON object and nothing after it. encoding/json would take the last of two members of a name, and a
// name in other letters; here both are errors.
func members(b []byte) (map[string]json.RawMessage, error) {
	bad := errors.New("is not one JSON object")
	d := json.NewDecoder(bytes.NewReader(b))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, bad
	}
	all := map[string]json.RawMessage{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, bad
		}
		key := name.(string) // Token gives nothing else for the name of a member
		if _, twice := all[key]; twice {
			return nil, fmt.Errorf("%.40q is there twice", key)
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, bad
		}
		all[key] = raw
	}
	if _, err := d.Token(); err != nil {
		return nil, bad
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, bad
	}
	return all, nil
}

func unknown[V any](all map[string]V, known ...string) error {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if !slices.Contains(known, name) {
			return fmt.Errorf("%.40q is not known", name)
		}
	}
	return nil
}
