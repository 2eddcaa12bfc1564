package server

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/avouch-dev/avouch/agent"
	"github.com/avouch-dev/avouch/internal/mail"
	"github.com/avouch-dev/avouch/internal/secret"
	"github.com/avouch-dev/avouch/internal/sms"
	"github.com/avouch-dev/avouch/keyring/kms"
	"github.com/avouch-dev/avouch/signin"
	"github.com/avouch-dev/avouch/signin/password"
)

// Config is how a server is set up. Each field is a flag of `avouch serve`, and has the environment variable of its env
// tag.
type Config struct {
	Listen        string `env:"AVOUCH_LISTEN" default:"127.0.0.1:8443" help:"Address to listen on."`
	MetricsListen string `env:"AVOUCH_METRICS_LISTEN" help:"Address of a listener for /metrics alone. Without it, /metrics answers on the main one, to loopback clients."`
	PprofListen   string `env:"AVOUCH_PPROF_LISTEN" help:"Loopback address for Go's profiler. Off by default."`

	DatabaseURL         string `env:"AVOUCH_DATABASE_URL" hidden:"" help:"PostgreSQL, as the role avouch_server. Environment only, as it may hold a password. TLS and client certificates as libpq has them: sslmode, sslrootcert, sslcert, sslkey."`
	DatabaseConnections int32  `env:"AVOUCH_DATABASE_CONNECTIONS" default:"16" help:"Most connections for reads and changes. The log has up to eleven more."`

	PlatformKeyFile string        `env:"AVOUCH_PLATFORM_KEY_FILE" help:"File with the platform key, readable by its owner alone."`
	PlatformKey     secret.String `env:"AVOUCH_PLATFORM_KEY" hidden:"" help:"The platform key itself, base64. Environment only."`
	KMS             kms.Config    `embed:""`
	PepperFile      string        `name:"api-key-pepper-file" env:"AVOUCH_API_KEY_PEPPER_FILE" help:"File with the pepper of API key digests, in the form of the platform key, readable by its owner alone. Without one, it is derived from the platform key."`
	Pepper          secret.String `name:"api-key-pepper" env:"AVOUCH_API_KEY_PEPPER" hidden:"" help:"The pepper itself. Environment only."`
	KeyStore        string        `env:"AVOUCH_KEY_STORE" help:"Directory of the organisations' keys. Servers of one installation share it; it must not be in the database's backups."`

	KeyRotation int `name:"key-rotation" env:"AVOUCH_KEY_ROTATION" default:"90" help:"Days after which an organisation's own keys are rotated; 0 rotates none but by hand."`
	OldKeysKept int `name:"old-keys-kept" env:"AVOUCH_OLD_KEYS_KEPT" default:"35" help:"Days for which the version before is kept once nothing needs it, so that backups of the database can be restored: as long as you keep them. At least 1."`

	PublicURL      string   `env:"AVOUCH_PUBLIC_URL" help:"Where this installation is reached from outside, and the issuer of its tokens for good: set at the first start."`
	TrustedProxies []string `env:"AVOUCH_TRUSTED_PROXIES" help:"Addresses or networks whose X-Forwarded-For and X-Forwarded-Proto are believed."`
	TLSCertFile    string   `env:"AVOUCH_TLS_CERT_FILE" help:"Certificate chain, PEM."`
	TLSKeyFile     string   `env:"AVOUCH_TLS_KEY_FILE" help:"Its private key, PEM."`

	SignUp         bool  `env:"AVOUCH_SIGN_UP" help:"Let anyone make an organisation."`
	SignUpsPerHour int   `env:"AVOUCH_SIGN_UPS_PER_HOUR" default:"10" help:"Organisations that one client address may make in an hour, on each server; negative is unlimited."`
	TenantQuota    int64 `env:"AVOUCH_TENANT_QUOTA" default:"10000" help:"Verifications a month of a new organisation's owner keys; negative is unlimited."`
	ServiceQuota   int64 `env:"AVOUCH_SERVICE_QUOTA" default:"100000" help:"Verifications a month of a new service key; negative is unlimited."`

	TextsPerDay int `env:"AVOUCH_TEXTS_PER_DAY" default:"1000" help:"Text messages that the people of one organisation may be sent in a day, on all servers together; negative is unlimited."`

	KeysPerOwner   int    `env:"AVOUCH_KEYS_PER_OWNER" default:"100" help:"API keys in force that an organisation may give to one owner, unless it says otherwise for that one."`
	UnknownKeys    int    `name:"unknown-keys-per-minute" env:"AVOUCH_UNKNOWN_KEYS_PER_MINUTE" default:"30000" help:"Unknown API keys that one client address may have looked up in a minute, on each server; negative is unlimited."`
	GitHubKeysFile string `name:"github-keys-file" env:"AVOUCH_GITHUB_KEYS_FILE" help:"GitHub's public keys for secret scanning alerts, as its API lists them. Without it, no alert is believed."`

	OTLPEndpoint  string      `env:"AVOUCH_OTLP_ENDPOINT" help:"Where traces go: an OTLP/HTTP address, https://collector:4318. Off by default."`
	OTLPCAFile    string      `name:"otlp-ca-file" env:"AVOUCH_OTLP_CA_FILE" help:"Authority of the collector's certificate."`
	OTLPCertFile  string      `env:"AVOUCH_OTLP_CERT_FILE" help:"Our certificate for the collector."`
	OTLPKeyFile   string      `env:"AVOUCH_OTLP_KEY_FILE" help:"Its private key."`
	TraceSeconds  float64     `env:"AVOUCH_TRACES_PER_SECOND" default:"50" help:"How many requests a second are traced at most."`
	SecurityEmail string      `env:"AVOUCH_SECURITY_CONTACT" help:"Contact of /.well-known/security.txt: a mailto: or https: address."`
	OperatorEmail string      `env:"AVOUCH_OPERATOR_EMAIL" help:"Where incidents of the installation itself are mailed."`
	Mail          mail.Config `embed:"" prefix:"mail-"`
	SMS           sms.Config  `embed:"" prefix:"sms-"`
	RegionsFile   string      `env:"AVOUCH_REGIONS_FILE" help:"File with the regions and their senders of mail and text messages, readable by its owner alone."`

	Breached password.BreachedConfig `embed:"" prefix:"breached-"`

	HardwareRootsFile string   `name:"hardware-key-roots-file" env:"AVOUCH_HARDWARE_KEY_ROOTS_FILE" help:"Certificates, PEM, of makers whose attestation proves that a passkey is in hardware. Without it, none counts as hardware."`
	HardwareModels    []string `name:"hardware-key-models" env:"AVOUCH_HARDWARE_KEY_MODELS" help:"The models of these makers that count, by AAGUID. All, if none is named."`

	OutboundNetworks []string `env:"AVOUCH_OUTBOUND_NETWORKS" help:"Networks beside the public internet where providers and approval systems of organisations may be."`
	VaultNetworks    []string `env:"AVOUCH_VAULT_NETWORKS" help:"Networks beside the public internet where hosts may be to which the vault sends secrets, of every organisation that names one."`
	OutboundCAFile   string   `name:"outbound-ca-file" env:"AVOUCH_OUTBOUND_CA_FILE" help:"Authorities beside the system's of those whom organisations name, PEM."`
	DNSServer        string   `name:"dns-server" env:"AVOUCH_DNS_SERVER" help:"Name server, host:port, that is asked for the records by which organisations prove their domains. The system's, if none is named."`

	// Development is set by `avouch dev`: plain HTTP on loopback, no quotas, a page that shows the mail that was sent.
	Development bool   `kong:"-"`
	Version     string `kong:"-"`

	ownLife time.Duration `kong:"-"` // for tests: of what an organisation's own key management lets us have
	clock   clock         `kong:"-"` // for tests; the zero clock is the real one
	quick   bool          `kong:"-"` // for tests: passwords are hashed in no time
	// lookupTXT asks DNS in place of the system's resolver: for tests, which ask nobody.
	lookupTXT func(ctx context.Context, name string) ([]string, error) `kong:"-"`

	// Strangers is for tests, and nil in a server: it changes what rooms are set up with that strangers come to.
	Strangers func(*password.Config, *signin.Config) `kong:"-"`
}

// settings are what a Config means.
type settings struct {
	public  *url.URL
	issuer  agent.Issuer
	proxies []netip.Prefix
}

// ErrConfig wraps what is wrong with a configuration.
var ErrConfig = errors.New("the configuration is not usable")

func (c *Config) settings(listen string) (s settings, err error) {
	if c.DatabaseURL == "" {
		return s, fmt.Errorf("%w: AVOUCH_DATABASE_URL is needed: the database, as the role avouch_server", ErrConfig)
	}
	if c.KeyStore == "" {
		return s, fmt.Errorf("%w: AVOUCH_KEY_STORE is needed: the directory of the organisations' keys, which all servers share", ErrConfig)
	}
	public := c.PublicURL
	if public == "" {
		if !c.loopback(listen) {
			return s, fmt.Errorf("%w: AVOUCH_PUBLIC_URL is needed: the address by which others reach this installation, and the issuer of its tokens", ErrConfig)
		}
		public = "http://" + listen
	}
	s.public, err = url.Parse(public)
	if err != nil || s.public.Host == "" || s.public.Scheme != "http" && s.public.Scheme != "https" {
		return s, fmt.Errorf("%w: AVOUCH_PUBLIC_URL is not an http or https address", ErrConfig)
	}
	if s.public.Scheme == "http" && !c.loopback(s.public.Host) {
		return s, fmt.Errorf("%w: AVOUCH_PUBLIC_URL is plain http, which is for loopback only: credentials would travel in clear; name an https address", ErrConfig)
	}
	if c.Development && s.public.Scheme == "http" && !c.loopback(listen) {
		return s, fmt.Errorf("%w: development without TLS is for loopback only, and %s is not: credentials would travel in clear; listen on 127.0.0.1, or give a certificate", ErrConfig, listen)
	}
	// Before anything is stored: the first start fixes the issuer for good.
	if s.issuer, err = agent.ParseIssuer(public); err != nil {
		return s, fmt.Errorf("%w: AVOUCH_PUBLIC_URL: %w", ErrConfig, err)
	}
	if (c.TLSCertFile == "") != (c.TLSKeyFile == "") {
		return s, fmt.Errorf("%w: AVOUCH_TLS_CERT_FILE and AVOUCH_TLS_KEY_FILE go together", ErrConfig)
	}
	if c.PprofListen != "" && !c.loopback(c.PprofListen) {
		return s, fmt.Errorf("%w: AVOUCH_PPROF_LISTEN is not a loopback address: a profile shows what the process holds", ErrConfig)
	}
	if !isContact(c.SecurityEmail) {
		return s, fmt.Errorf("%w: AVOUCH_SECURITY_CONTACT is not an address with its scheme, such as mailto:security@example.com or https://example.com/security", ErrConfig)
	}
	if s.proxies, err = prefixes(c.TrustedProxies); err != nil {
		return s, fmt.Errorf("%w: AVOUCH_TRUSTED_PROXIES: %w", ErrConfig, err)
	}
	return s, nil
}

// prefixes reads networks, of which an address is one.
func prefixes(texts []string) (all []netip.Prefix, err error) {
	for _, p := range texts {
		if !strings.Contains(p, "/") {
			if a, err := netip.ParseAddr(p); err == nil {
				p = netip.PrefixFrom(a, a.BitLen()).String()
			}
		}
		prefix, err := netip.ParsePrefix(p)
		if err != nil {
			return nil, fmt.Errorf("%q is neither an address nor a network", p)
		}
		all = append(all, prefix.Masked())
	}
	return all, nil
}

// isContact reports whether RFC 9116 takes it as a Contact, or it is empty.
func isContact(s string) bool {
	u, err := url.Parse(s) // refuses control characters, so that nothing adds a line
	return s == "" || err == nil && !strings.Contains(s, " ") && (u.Scheme == "mailto" && strings.Contains(u.Opaque, "@") || u.Scheme == "https" && u.Host != "")
}

func (c *Config) loopback(hostport string) bool {
	u := url.URL{Host: hostport}
	host := u.Hostname()
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// signUps is unlimited in development, where whoever tries things out signs up as often as there are things to try.
func (c *Config) signUps() int {
	if c.Development {
		return -1
	}
	return c.SignUpsPerHour
}

func limit(n int64) *int64 {
	if n < 0 {
		return nil
	}
	return &n
}
