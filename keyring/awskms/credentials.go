package awskms

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"

	"github.com/avouch-dev/avouch/keyring"
)

// machine is where credentials come from, by the variables that AWS gives its own programs: the first of the environment itself, a web
// identity (EKS), a container's address (ECS, EKS Pod Identity) and the instance's role. Files of people (~/.aws) are not read: a server
// that finds a developer's credentials works until he leaves.
func (w *Wrapper) machine(getenv func(string) string, partition string) (aws.CredentialsProvider, error) {
	cached := func(p aws.CredentialsProvider) *aws.CredentialsCache {
		return aws.NewCredentialsCache(p, func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = 5 * time.Minute })
	}
	switch {
	case getenv("AWS_ACCESS_KEY_ID") != "":
		given := aws.Credentials{AccessKeyID: getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: getenv("AWS_SECRET_ACCESS_KEY"), SessionToken: getenv("AWS_SESSION_TOKEN")}
		if given.SecretAccessKey == "" {
			return nil, errors.New("AWS_ACCESS_KEY_ID is set, and AWS_SECRET_ACCESS_KEY is not")
		}
		return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return given, nil }), nil
	case getenv("AWS_WEB_IDENTITY_TOKEN_FILE") != "":
		sts, err := endpoint(getenv("AWS_ENDPOINT_URL_STS"), "sts", w.region, partition)
		if err != nil {
			return nil, fmt.Errorf("AWS_ENDPOINT_URL_STS: %w", err)
		}
		if getenv("AWS_ROLE_ARN") == "" {
			return nil, errors.New("AWS_WEB_IDENTITY_TOKEN_FILE is set, and AWS_ROLE_ARN is not")
		}
		return cached(&webIdentity{w.http, sts, getenv("AWS_ROLE_ARN"), getenv("AWS_ROLE_SESSION_NAME"), getenv("AWS_WEB_IDENTITY_TOKEN_FILE")}), nil
	case getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") != "" || getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI") != "":
		p, err := w.container(getenv)
		if err != nil {
			return nil, err
		}
		return cached(p), nil
	}
	return cached(ec2rolecreds.New(func(o *ec2rolecreds.Options) {
		o.Client = imds.New(imds.Options{ // without version 1, which anything on the machine can be led to ask
			Endpoint: getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT"), HTTPClient: w.http, Retryer: aws.NopRetryer{}, EnableFallback: aws.FalseTernary,
		})
	})), nil
}

// container asks the address that a container was given, which must be the platform's, this machine or https.
func (w *Wrapper) container(getenv func(string) string) (aws.CredentialsProvider, error) {
	address := getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
	if relative := getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"); relative != "" {
		address = "http://169.254.170.2" + relative
	}
	at, err := url.Parse(address)
	platforms := []string{"169.254.170.2", "169.254.170.23", "fd00:ec2::23"}
	if err != nil || at.Scheme != "https" && !(at.Scheme == "http" && (loopback(at.Hostname()) || slices.Contains(platforms, at.Hostname()))) {
		return nil, errors.New("AWS_CONTAINER_CREDENTIALS_FULL_URI must be https, of this machine, or of the container's platform")
	}
	return endpointcreds.New(address, func(o *endpointcreds.Options) {
		o.HTTPClient = w.http
		o.AuthorizationToken = getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN")
		if file := getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"); file != "" {
			o.AuthorizationTokenProvider = endpointcreds.TokenProviderFunc(func() (string, error) {
				token, err := os.ReadFile(file)
				return strings.TrimSpace(string(token)), err
			})
		}
	}), nil
}

// unable says that there are no credentials. The causes' texts are the answers of others, and are not told.
func unable(ctx context.Context, err error) error {
	if gone := ctx.Err(); gone != nil {
		return fmt.Errorf("%w: %w", keyring.ErrSilent, gone)
	}
	if errors.Is(err, keyring.ErrRefused) {
		return fmt.Errorf("%w: AWS gives no credentials", keyring.ErrRefused)
	}
	return fmt.Errorf("%w: AWS gives no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run with a web identity, or in a container or on an instance with a role", keyring.ErrSilent)
}

// webIdentity exchanges the token that Kubernetes writes into a file for credentials of a role.
type webIdentity struct {
	http                             *http.Client
	endpoint, role, session, tokenIn string
}

// Retrieve asks the security token service. The request is not signed: the token is what it proves.
func (i *webIdentity) Retrieve(ctx context.Context) (aws.Credentials, error) {
	token, err := os.ReadFile(i.tokenIn)
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("awskms.Retrieve: %w", err)
	}
	session := i.session
	if session == "" {
		session = "avouch"
	}
	form := url.Values{
		"Action": {"AssumeRoleWithWebIdentity"}, "Version": {"2011-06-15"}, "RoleArn": {i.role}, "RoleSessionName": {session},
		"WebIdentityToken": {strings.TrimSpace(string(token))},
	}.Encode()
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, i.endpoint+"/", strings.NewReader(form))
	if err != nil {
		return aws.Credentials{}, err
	}
	q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	status, answer, err := exchange(i.http, q)
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("awskms.Retrieve: %w", err)
	}
	defer clear(answer)
	switch {
	case status/100 == 4 && status != http.StatusTooManyRequests:
		return aws.Credentials{}, keyring.ErrRefused
	case status/100 != 2:
		return aws.Credentials{}, keyring.ErrSilent
	}
	var out struct {
		Given struct {
			AccessKeyID     string    `xml:"AccessKeyId"`
			SecretAccessKey string    `xml:"SecretAccessKey"`
			SessionToken    string    `xml:"SessionToken"`
			Expiration      time.Time `xml:"Expiration"`
		} `xml:"AssumeRoleWithWebIdentityResult>Credentials"`
	}
	if err := xml.Unmarshal(answer, &out); err != nil || out.Given.AccessKeyID == "" || out.Given.SecretAccessKey == "" {
		return aws.Credentials{}, errors.New("awskms.Retrieve: the answer is another than is documented")
	}
	g := &out.Given
	return aws.Credentials{AccessKeyID: g.AccessKeyID, SecretAccessKey: g.SecretAccessKey, SessionToken: g.SessionToken, CanExpire: true, Expires: g.Expiration}, nil
}
