package awskms

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

const (
	region     = "eu-central-1"
	motoStarts = 60 * time.Second
)

// moto is a server of AWS's API.
type moto struct {
	t   *testing.T
	URL string
}

// newMoto starts a server, which ends with the test. Without one the test is skipped, or fails where CI is true.
func newMoto(t *testing.T) *moto {
	t.Helper()
	program, err := filepath.Abs("../../.cache/moto/bin/python")
	if err == nil {
		_, err = os.Stat(program)
	}
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatal("moto is not there: scripts/setup-moto.sh installs it")
	}
	if err != nil {
		t.Skip("skipped: moto is not there: scripts/setup-moto.sh installs it")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(address)
	c := exec.CommandContext(context.WithoutCancel(t.Context()), program, "testdata/server.py", "-H", "127.0.0.1", "-p", port)
	c.Env = append(os.Environ(), "MOTO_IAM_LOAD_MANAGED_POLICIES=false")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	m := &moto{t, "http://" + address}
	for until := time.Now().Add(motoStarts); time.Now().Before(until); time.Sleep(50 * time.Millisecond) {
		if resp, err := http.Get(m.URL + "/moto-api/data.json"); err == nil {
			resp.Body.Close()
			return m
		}
	}
	t.Fatal("moto does not start")
	return nil
}

// anyone is who a server believes that checks no signatures.
var anyone = credentials.NewStaticCredentialsProvider("AKIAANYONE", "anyone's", "")

// sdk is the SDK's own client: the second opinion.
func (m *moto) sdk(c aws.CredentialsProvider) *kms.Client {
	return kms.New(kms.Options{Region: region, BaseEndpoint: aws.String(m.URL), Credentials: c})
}

func (m *moto) newKey(c aws.CredentialsProvider) string {
	m.t.Helper()
	out, err := m.sdk(c).CreateKey(m.t.Context(), &kms.CreateKeyInput{KeyUsage: types.KeyUsageTypeEncryptDecrypt, KeySpec: types.KeySpecSymmetricDefault})
	if err != nil {
		m.t.Fatal(err)
	}
	return *out.KeyMetadata.Arn
}

func (m *moto) wrapper(at, key string, c aws.CredentialsProvider) *Wrapper {
	m.t.Helper()
	w, err := New(Config{Key: key, Endpoint: at, Credentials: c, Timeout: 2 * time.Second})
	if err != nil {
		m.t.Fatal(err)
	}
	return w
}

// newUser makes a user with a right, and credentials of theirs.
func (m *moto) newUser(name, right string) aws.CredentialsProvider {
	m.t.Helper()
	m.iam(nil, "CreateUser", "UserName", name)
	m.permit(nil, name, right)
	var id, key string
	for _, part := range strings.Split(m.iam(nil, "CreateAccessKey", "UserName", name), "<") {
		tag, text, _ := strings.Cut(part, ">")
		switch tag {
		case "AccessKeyId":
			id = text
		case "SecretAccessKey":
			key = text
		}
	}
	if id == "" || key == "" {
		m.t.Fatal("moto made no access key")
	}
	return credentials.NewStaticCredentialsProvider(id, key, "")
}

func (m *moto) permit(by aws.CredentialsProvider, name, right string) {
	m.iam(by, "PutUserPolicy", "UserName", name, "PolicyName", "of-the-test",
		"PolicyDocument", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"`+right+`","Resource":"*"}]}`)
}

// iam calls the service of users and policies, as somebody if signatures are checked.
func (m *moto) iam(by aws.CredentialsProvider, action string, pairs ...string) string {
	m.t.Helper()
	if by == nil {
		by = anyone
	}
	form := url.Values{"Action": {action}, "Version": {"2010-05-08"}}
	for i := 0; i < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	body := form.Encode()
	q, err := http.NewRequest(http.MethodPost, m.URL+"/", strings.NewReader(body))
	if err != nil {
		m.t.Fatal(err)
	}
	q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	c, err := by.Retrieve(m.t.Context())
	if err == nil {
		err = sign(m.t.Context(), q, c, []byte(body), "iam", "us-east-1", time.Now())
	}
	if err != nil {
		m.t.Fatal(err)
	}
	status, answer, err := exchange(http.DefaultClient, q)
	if err != nil || status != http.StatusOK {
		m.t.Fatalf("%s: %d, %v: %s", action, status, err, answer)
	}
	return string(answer)
}

// checkSignatures makes the server believe nobody from now on who does not prove who they are, and what they may do.
func (m *moto) checkSignatures() {
	m.t.Helper()
	resp, err := http.Post(m.URL+"/moto-api/reset-auth", "text/plain", strings.NewReader("0"))
	if err != nil {
		m.t.Fatal(err)
	}
	resp.Body.Close()
}

// front stands before a server: it can answer in its place, or not at all.
type front struct {
	*httptest.Server

	mu   sync.Mutex
	in   func(w http.ResponseWriter, r *http.Request) bool // answers, or says false
	seen []string
}

func newFront(t *testing.T, behind string) *front {
	t.Helper()
	to, err := url.Parse(behind)
	if err != nil {
		t.Fatal(err)
	}
	f := &front{}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host // it is signed
	}, ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
		if !errors.Is(err, context.Canceled) {
			w.WriteHeader(http.StatusBadGateway)
		}
	}}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		in := f.in
		f.seen = append(f.seen, r.Header.Get("X-Amz-Target"), r.URL.String())
		f.mu.Unlock()
		if in == nil || !in(w, r) {
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *front) set(in func(http.ResponseWriter, *http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.in = in
}

// hang takes requests and answers none, until the test is over.
func (f *front) hang(t *testing.T) {
	over := make(chan struct{})
	t.Cleanup(func() { close(over) })
	f.set(func(http.ResponseWriter, *http.Request) bool {
		<-over
		return true
	})
}

// fails answers as the service does with an error.
func (f *front) fails(status int, name string) {
	f.set(func(w http.ResponseWriter, r *http.Request) bool {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"__type": name, "message": fmt.Sprintf("of %s: AQICAHsecret", r.Header.Get("Authorization"))})
		return true
	})
}
