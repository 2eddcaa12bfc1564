package apikey

import (
	"encoding/json"
	"net/http"

	"github.com/avouch-dev/avouch/audit"
	"github.com/avouch-dev/avouch/internal/problem"
	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/tenantdb"
)

type (
	alertsInput struct {
		Identifier string `header:"Github-Public-Key-Identifier" doc:"Which of GitHub's keys signed the body"`
		Signature  string `header:"Github-Public-Key-Signature" doc:"ECDSA over SHA-256 of the body, ASN.1, base64"`
		Body       []struct {
			Token  string `json:"token"`
			Type   string `json:"type"`
			URL    string `json:"url,omitempty"`
			Source string `json:"source,omitempty"`
		}
	}
	alertsOutput struct{ Body []Feedback }
)

func (r *Room) alertRoutes(api *web.API[tenantdb.Caller]) {
	web.HandleRaw[alertsInput, alertsOutput](api, web.Op{
		ID: "secret-scanning-github", Method: http.MethodPost, Path: "/api/v1/secret-scanning/github", Tags: []string{"Keys"}, Access: web.Public, MaxBody: maxGitHubBody,
		Summary:     "Hear from GitHub that keys have leaked",
		Description: "GitHub's secret scanning partner protocol. A key that was found in public is revoked at once, and its owner is told.",
	}, func(w http.ResponseWriter, req *http.Request, _ tenantdb.Caller, meta web.RequestMeta) error {
		body, err := api.Read(w, req)
		if err != nil {
			return err
		}
		if err := r.cfg.GitHubKeys.Verify(req.Header.Get(GitHubKeyHeader), req.Header.Get(GitHubSignatureHeader), body); err != nil {
			return problem.New(problem.Unauthenticated, "This is for GitHub: %v.", err)
		}
		alerts, err := parseAlerts(body)
		if err != nil {
			return problem.New(problem.Invalid, "The body is not a list of alerts.").Because(err)
		}
		out, err := r.heedAll(req.Context(), alerts, audit.RequestID(meta.ID))
		if err != nil { // GitHub sends it again: what was done is found to be done
			return err
		}
		w.Header().Set("Content-Type", "application/json")
		return json.NewEncoder(w).Encode(out)
	})
}
