package mail

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"net/textproto"
	"os"
	"strconv"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"

	"github.com/avouch-dev/avouch/internal/secret"
)

// Config says how mail leaves. Its tags name the variables.
type Config struct {
	Server       string        `env:"AVOUCH_MAIL_SERVER" help:"host:port of the SMTP server; nothing is sent without it"`
	From         string        `env:"AVOUCH_MAIL_FROM" help:"the sender, such as Avouch <avouch@example.com>"`
	User         string        `env:"AVOUCH_MAIL_USER" help:"the account at the SMTP server, if it wants one"`
	Password     secret.String `env:"AVOUCH_MAIL_PASSWORD" hidden:"" help:"the account's password"`
	PasswordFile string        `env:"AVOUCH_MAIL_PASSWORD_FILE" help:"a file with the account's password, readable by its owner alone"`
	TLS          string        `env:"AVOUCH_MAIL_TLS" enum:",starttls,tls,none" default:"" help:"starttls (the default), tls (from the first byte), or none (loopback only, and the default there)"`
	CAFile       string        `env:"AVOUCH_MAIL_CA_FILE" help:"certificates (PEM) to trust beside the system's"`
	Timeout      time.Duration `kong:"-"` // of one step of the conversation; 0 means 15 s
}

// SMTP sends through a server.
type SMTP struct {
	host    string
	from    *netmail.Address
	options []gomail.Option
}

// NewSMTP reads the configuration and refuses one with which a message or a password would travel in the clear. It does
// not connect.
func NewSMTP(c Config) (*SMTP, error) {
	host, port, err := net.SplitHostPort(c.Server)
	number, bad := strconv.ParseUint(port, 10, 16)
	if err != nil || bad != nil || host == "" || number == 0 {
		return nil, errors.New("mail.NewSMTP: AVOUCH_MAIL_SERVER is not host:port")
	}
	s := &SMTP{host: host}
	if s.from, err = address(c.From); err != nil {
		return nil, errors.New("mail.NewSMTP: AVOUCH_MAIL_FROM is not an address")
	}
	if c.Timeout == 0 {
		c.Timeout = 15 * time.Second
	}
	s.options = []gomail.Option{gomail.WithPort(int(number)), gomail.WithTimeout(c.Timeout)}
	encryption, err := c.encryption(host)
	if err != nil {
		return nil, wrap("NewSMTP", err)
	}
	s.options = append(s.options, encryption...)
	if c.User == "" {
		return s, nil
	}
	password, err := c.password()
	if err != nil {
		return nil, wrap("NewSMTP", err)
	}
	if c.mode(host) == "none" {
		return nil, errors.New("mail.NewSMTP: an account needs TLS: its password would travel in the clear")
	}
	s.options = append(s.options, gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover), gomail.WithUsername(c.User), gomail.WithPassword(password.Expose()))
	return s, nil
}

func (c *Config) mode(host string) string {
	if c.TLS == "" && loopback(host) {
		return "none"
	}
	return c.TLS
}

func (c *Config) encryption(host string) ([]gomail.Option, error) {
	conf := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("AVOUCH_MAIL_CA_FILE: %w", err)
		}
		if conf.RootCAs, err = x509.SystemCertPool(); err != nil {
			conf.RootCAs = x509.NewCertPool()
		}
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("AVOUCH_MAIL_CA_FILE holds no certificate")
		}
	}
	switch c.mode(host) {
	case "", "starttls":
		return []gomail.Option{gomail.WithTLSConfig(conf), gomail.WithTLSPolicy(gomail.TLSMandatory)}, nil
	case "tls":
		return []gomail.Option{gomail.WithTLSConfig(conf), gomail.WithSSL()}, nil
	case "none":
		if loopback(host) {
			return []gomail.Option{gomail.WithTLSPolicy(gomail.NoTLS)}, nil
		}
		return nil, errors.New("AVOUCH_MAIL_TLS=none is for a server on loopback only")
	}
	return nil, errors.New("AVOUCH_MAIL_TLS is none of starttls, tls, none")
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (c *Config) password() (secret.String, error) {
	if !c.Password.IsZero() || c.PasswordFile == "" {
		return c.Password, nil
	}
	b, err := secret.ReadFile(c.PasswordFile, 4<<10)
	if err != nil {
		return secret.String{}, fmt.Errorf("AVOUCH_MAIL_PASSWORD_FILE: %w", err)
	}
	return secret.Text(strings.TrimRight(string(b), "\r\n")), nil
}

// Credentials are what the server knows a sender by, by what they are called: the account, at its server, and the password.
func (c Config) Credentials() (map[string]secret.String, error) {
	if c.Server == "" || c.User == "" {
		return nil, nil
	}
	password, err := c.password()
	if err != nil {
		return nil, wrap("Credentials", err)
	}
	return map[string]secret.String{"user": secret.Text(c.User + " at " + strings.ToLower(c.Server)), "password": password}, nil
}

// Send hands the message to the server. Its errors hold no address and nothing that the server said but its code, since
// they end up in logs and in the rows of jobs, and servers like to repeat addresses.
func (s *SMTP) Send(ctx context.Context, m Message) error {
	to, err := m.check()
	if err != nil {
		return &Error{Permanent: true, says: err.Error()}
	}
	// A client for each message: it keeps no connection, so there is nothing that could have gone stale.
	client, err := gomail.NewClient(s.host, s.options...)
	if err != nil {
		return &Error{says: "mail: the configuration is not one", Permanent: true}
	}
	conn, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return failed("the server cannot be reached, or is not to be trusted", err)
	}
	// Once the server has taken the message, how the conversation ends is of no matter.
	defer func() { _ = client.CloseWithSMTPClient(conn) }()
	if err := client.SendWithSMTPClient(conn, s.compose(m, to)); err != nil {
		return failed("the server did not take the message", err)
	}
	return nil
}

func (s *SMTP) compose(m Message, to *netmail.Address) *gomail.Msg {
	out := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	out.FromMailAddress(s.from)
	out.ToMailAddress(to)
	out.Subject(m.Subject)
	out.SetDate()
	_, domain, _ := strings.Cut(s.from.Address, "@")
	out.SetMessageIDWithValue(rand.Text() + "@" + domain)
	out.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no vacation notices to a machine
	out.SetBodyString(gomail.TypeTextPlain, m.Text)
	if m.HTML != "" {
		out.AddAlternativeString(gomail.TypeTextHTML, m.HTML)
	}
	return out
}

// Error is a failure to send.
type Error struct {
	Permanent bool // trying again is of no use
	Code      int  // the server's answer; 0 if it gave none
	says      string
}

// Error says what failed, and nothing of the message.
func (e *Error) Error() string {
	if e.Code != 0 {
		return fmt.Sprintf("%s (%d)", e.says, e.Code)
	}
	return e.says
}

func failed(says string, err error) error {
	e := &Error{says: "mail: " + says}
	var protocol *textproto.Error
	var sending *gomail.SendError
	switch {
	case errors.As(err, &sending):
		e.Code = sending.ErrorCode()
		e.Permanent = e.Code >= 500 && !sending.IsTemp()
	case errors.As(err, &protocol):
		e.Code = protocol.Code
		e.Permanent = e.Code >= 500
	}
	return e
}
