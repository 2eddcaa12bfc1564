package main

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// root is the whole command line.
type root struct {
	Globals globals `embed:""`

	Dev     devCmd     `cmd:"" group:"server" help:"Run all of Avouch from one directory, with something to try."`
	Serve   serveCmd   `cmd:"" group:"server" help:"Run a server against a database."`
	Migrate migrateCmd `cmd:"" group:"server" help:"Bring a database up to this release."`
	Doctor  doctorCmd  `cmd:"" group:"server" help:"Look at what a server needs, and say how to mend it."`

	Keyring   keyringCmd   `cmd:"" group:"server" help:"Keys of the installation. For the operator."`
	Incidents incidentsCmd `cmd:"" group:"server" help:"What is wrong with the installation. For the operator."`
	Passwords passwordsCmd `cmd:"" group:"server" help:"Passwords that others know. For the operator."`
	Glass     glassCmd     `cmd:"" name:"break-glass" group:"server" help:"Open what an organisation keeps: logged, told and reviewed. For the operator."`

	Verify   verifyCmd   `cmd:"" group:"agents" help:"Ask whether to let an agent in."`
	Agents   agentsCmd   `cmd:"" group:"agents" help:"Agents and their tokens."`
	Revoke   revokeCmd   `cmd:"" group:"agents" help:"Revoke an agent at once, for good, with all its tokens."`
	Scopes   scopesCmd   `cmd:"" group:"agents" help:"What agents can be allowed to do."`
	Audit    auditCmd    `cmd:"" group:"proof" help:"Read, check and export the log."`
	Trace    traceCmd    `cmd:"" group:"proof" help:"Show everything that one request did."`
	Keys     keysCmd     `cmd:"" group:"account" help:"API keys of your organisation and its services."`
	Vault    vaultCmd    `cmd:"" group:"account" help:"Secrets that people and agents use without seeing them."`
	PG       pgCmd       `cmd:"" name:"pg" group:"own" help:"API keys in your own PostgreSQL, for PostgREST and Supabase."`
	Orgs     orgsCmd     `cmd:"" name:"organisations" group:"account" help:"Your organisation, and new ones."`
	VersionC versionCmd  `cmd:"" name:"version" group:"program" help:"Say which build this is."`
	Version  versionFlag `hidden:"" help:"Say which build this is."`
}

// globals is what every command is given: the flags that all have, and where it reads and writes.
type globals struct {
	JSON bool `env:"AVOUCH_JSON" help:"Print JSON on standard output: one object, or one a line."`

	In     io.Reader           `kong:"-"`
	Out    io.Writer           `kong:"-"`
	Err    io.Writer           `kong:"-"`
	Now    func() time.Time    `kong:"-"`
	Getenv func(string) string `kong:"-"`
}

const about = `Registers agents, verifies their tokens, and proves from a tamper-evident log what they did.

The commands under "Agents" and "Your organisation", and audit tail and trace, ask the server at AVOUCH_URL with the key in AVOUCH_API_KEY, or as the person whose access token is in AVOUCH_ACCESS_TOKEN, which comes first. Keys, tokens and seeds are never arguments: those are for all to see on this machine.

Every flag can be set by a variable: --limit of "avouch agents list" by AVOUCH_AGENTS_LIST_LIMIT, and flags whose help names a variable by that one.

Exit codes: 0 well, 1 the thing asked about does not hold (denied, tampered, unhealthy), 2 wrong usage, 3 the environment lacks something.`

// command is what every command is.
type command interface {
	Run(context.Context, *globals) error
}

// run is the program but for the process around it.
func run(ctx context.Context, args []string) int {
	g := globals{In: os.Stdin, Out: os.Stdout, Err: redacted{os.Stderr}, Now: time.Now, Getenv: os.Getenv}
	cli := root{Globals: g}
	parser, err := newParser(&cli)
	if err != nil {
		return report(g.Err, err, false)
	}
	if len(args) > 0 && args[0] == "help" {
		args = append(slices.Clone(args[1:]), "--help")
	}
	wantsJSON := func() bool { return cli.Globals.JSON || slices.Contains(args, "--json") }
	if err := noSecrets(args); err != nil {
		return report(g.Err, err, wantsJSON())
	}
	parsed, err := parser.Parse(args)
	var p *kong.ParseError
	if errors.As(err, &p) && lacksCommand(p) && !wantsJSON() {
		parser.Stdout = g.Err
		if err := p.Context.PrintUsage(false); err != nil {
			return report(g.Err, err, false)
		}
		return exitUsage
	}
	if err != nil {
		return report(g.Err, err, wantsJSON())
	}
	// Not parsed.Run, which would keep all that parses arguments, a megabyte, for as long as a server runs.
	chosen := parsed.Selected().Target.Addr().Interface().(command)
	return report(g.Err, chosen.Run(ctx, &cli.Globals), wantsJSON())
}

// lacksCommand reports whether a command was given without the one under it: what there is is listed then.
func lacksCommand(p *kong.ParseError) bool {
	says := p.Error()
	return strings.HasPrefix(says, "expected one of") || strings.HasPrefix(says, `expected "`) && !strings.HasPrefix(says, `expected "<`)
}

func newParser(cli *root) (*kong.Kong, error) {
	g, derived := cli.Globals, map[*kong.Value]bool{}
	return kong.New(cli,
		kong.Name("avouch"), kong.Description(about), kong.Writers(g.Out, g.Err),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, WrapUpperBound: 100}),
		kong.ExplicitGroups([]kong.Group{
			{Key: "server", Title: "Run a server:"}, {Key: "agents", Title: "Agents:"}, {Key: "proof", Title: "Proof:"},
			{Key: "account", Title: "Your organisation:"}, {Key: "own", Title: "Your own database:"}, {Key: "program", Title: "This program:"},
		}),
		kong.PostBuild(func(k *kong.Kong) error {
			variables("AVOUCH", k.Model.Node, derived)
			return nil
		}),
		kong.ValueFormatter(func(v *kong.Value) string {
			if derived[v] {
				return v.Help // its variable follows from its name, and would be noise
			}
			return kong.DefaultHelpValueFormatter(v)
		}),
	)
}

// variables gives each flag that has none the variable of its place: AVOUCH_AGENTS_LIST_LIMIT. One shared by all
// that have --limit would turn up in commands that nobody thought of.
func variables(prefix string, node *kong.Node, derived map[*kong.Value]bool) {
	for _, f := range node.Flags {
		if len(f.Envs) > 0 || f.Name == "help" || f.Name == "version" {
			continue
		}
		name := prefix + "_" + upper(f.Name)
		f.Envs, f.Tag.Envs = []string{name}, []string{name}
		derived[f.Value] = true
	}
	for _, child := range node.Children {
		variables(prefix+"_"+upper(child.Name), child, derived)
	}
}

func upper(name string) string { return strings.ToUpper(strings.ReplaceAll(name, "-", "_")) }

// page is where a command prints for people.
func (g *globals) page() page {
	p := page{to: g.Out}
	if f, ok := g.Out.(*os.File); ok {
		p.width = terminalWidth(f)
	}
	p.colour = colours(p.width, g.Getenv)
	return p
}

// colours reports whether to use them: on a terminal that has some, for people who want them (no-color.org).
func colours(width int, getenv func(string) string) bool {
	return width > 0 && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
}
