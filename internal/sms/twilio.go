package sms

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/avouch-dev/avouch/internal/secret"
)

// twilio sends by Twilio's Messages resource: a form to /2010-04-01/Accounts/{sid}/Messages.json with basic authentication,
// answered with 201, or with JSON that holds the number of the error.
type twilio struct {
	client *http.Client
	url    string
	user   string
	token  secret.String
	from   url.Values
}

const twilioAddress = "https://api.twilio.com"

func (c *Config) twilio(client *http.Client) (*twilio, error) {
	account, key, found := strings.Cut(c.Account, "/")
	if !regexp.MustCompile(`^AC[0-9a-f]{32}$`).MatchString(account) || found && !regexp.MustCompile(`^SK[0-9a-f]{32}$`).MatchString(key) {
		return nil, errors.New("AVOUCH_SMS_ACCOUNT is no account SID (AC and 32 hexadecimal digits), nor one with / and the SID of an API key (SK...)")
	}
	t := &twilio{client: client, user: account, from: url.Values{}}
	if found {
		t.user = key
	}
	base := c.URL
	if base == "" {
		base = twilioAddress
	}
	u, err := address("AVOUCH_SMS_URL", base)
	if err != nil {
		return nil, err
	}
	t.url = u.JoinPath("2010-04-01", "Accounts", account, "Messages.json").String()
	if t.token, err = c.token(); err != nil {
		return nil, err
	}
	switch {
	case t.token.IsZero():
		return nil, errors.New("AVOUCH_SMS_TOKEN_FILE is not set, or empty")
	case regexp.MustCompile(`^MG[0-9a-f]{32}$`).MatchString(c.From):
		t.from.Set("MessagingServiceSid", c.From)
	case c.From != "" && len(c.From) <= 16:
		t.from.Set("From", c.From)
	default:
		return nil, errors.New("AVOUCH_SMS_FROM is no number, no sender id, and no SID of a messaging service (MG...)")
	}
	return t, nil
}

// Send hands the message to Twilio.
func (t *twilio) Send(ctx context.Context, m Message) error {
	if err := m.check(); err != nil {
		return &Error{Permanent: true, says: "the message is none"}
	}
	form := url.Values{"To": {m.To}, "Body": {m.Text}}
	for name, v := range t.from {
		form[name] = v
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url, strings.NewReader(form.Encode()))
	if err != nil {
		return &Error{Permanent: true, says: "the request cannot be made"}
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", "application/json")
	r.SetBasicAuth(t.user, t.token.Expose())
	status, body, err := post(t.client, r)
	if err != nil {
		return err
	}
	if status == http.StatusCreated {
		return nil
	}
	e := refused(status)
	var said struct{ Code int } // its message may hold the number
	if json.Unmarshal(body, &said) == nil && said.Code > 0 && said.Code < 1_000_000 {
		e.Code = said.Code
	}
	return e
}
