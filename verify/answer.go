package verify

import (
	"encoding/hex"
	"strconv"

	"github.com/avouch-dev/avouch/internal/web"
	"github.com/avouch-dev/avouch/policy"
	"github.com/avouch-dev/avouch/tenantdb"
)

// Answer is what a service is told.
type Answer struct {
	Allowed  bool     `json:"allowed" doc:"Whether to let the agent in: the only field that you need."`
	Decision Decision `json:"decision" enum:"ALLOWED,DENIED,REVOKED,EXPIRED"`
	Reason   string   `json:"reason" doc:"A sentence for a person."`
	// Agent is null unless the token's signature is ours and the service may know.
	Agent     web.Nullable[Agent] `json:"agent" doc:"Null unless the token's signature is ours and you may know."`
	RequestID string              `json:"request_id"`
	Audit     Evidence            `json:"audit"`
	Policy    string              `json:"policy_version" doc:"The rules that decided."`
}

// Agent is what a service learns of an agent.
type Agent struct {
	DID          string   `json:"did"`
	AgentID      string   `json:"agent_id"`
	Name         string   `json:"name"`
	Owner        string   `json:"owner" doc:"The public name of the organisation that answers for the agent."`
	ActiveScopes []string `json:"active_scopes" doc:"Of the scopes that you asked for, those that the agent has; all that it has if you asked for none."`
}

// Evidence is where the decision stands in the asking organisation's own log.
type Evidence struct {
	Log  string `json:"log"`
	Seq  int64  `json:"seq"`
	Leaf string `json:"leaf" doc:"SHA-256 of the entry, RFC 6962 leaf hash, hexadecimal."`
}

func (c *conclusion) answer(f *facts, who Asker, pos tenantdb.Position) *Answer {
	a := &Answer{
		Allowed: c.verdict.decision == Allowed, Decision: c.verdict.decision, Reason: c.verdict.reason, RequestID: who.Request.String(),
		Policy: policy.Version, Audit: Evidence{Log: pos.Log.String(), Seq: int64(pos.Seq), Leaf: hex.EncodeToString(pos.Leaf[:])},
	}
	if c.verdict.known {
		a.Agent.Value = &Agent{
			DID: f.claims.Subject, AgentID: f.claims.Agent.String(), Name: f.agent.name, Owner: f.owner.name, ActiveScopes: c.verdict.active,
		}
	}
	return a
}

// append writes the answer as encoding/json would: TestAnswerIsWrittenAsDescribed.
func (a *Answer) append(b []byte) []byte {
	b = strconv.AppendBool(append(b, `{"allowed":`...), a.Allowed)
	b = web.AppendText(append(b, `,"decision":`...), string(a.Decision))
	b = web.AppendText(append(b, `,"reason":`...), a.Reason)
	b = a.Agent.Value.append(append(b, `,"agent":`...))
	b = web.AppendText(append(b, `,"request_id":`...), a.RequestID)
	b = a.Audit.append(append(b, `,"audit":`...))
	b = web.AppendText(append(b, `,"policy_version":`...), a.Policy)
	return append(b, '}')
}

func (e *Evidence) append(b []byte) []byte {
	b = web.AppendText(append(b, `{"log":`...), e.Log)
	b = strconv.AppendInt(append(b, `,"seq":`...), e.Seq, 10)
	b = web.AppendText(append(b, `,"leaf":`...), e.Leaf)
	return append(b, '}')
}

func (a *Agent) append(b []byte) []byte {
	if a == nil {
		return append(b, "null"...)
	}
	b = web.AppendText(append(b, `{"did":`...), a.DID)
	b = web.AppendText(append(b, `,"agent_id":`...), a.AgentID)
	b = web.AppendText(append(b, `,"name":`...), a.Name)
	b = web.AppendText(append(b, `,"owner":`...), a.Owner)
	return append(appendTexts(append(b, `,"active_scopes":`...), a.ActiveScopes), '}')
}

// appendTexts writes a list that is never null.
func appendTexts(b []byte, texts []string) []byte {
	b = append(b, '[')
	for i, s := range texts {
		if i > 0 {
			b = append(b, ',')
		}
		b = web.AppendText(b, s)
	}
	return append(b, ']')
}
