package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/braidstream/braid/console"
	"github.com/braidstream/braid/gateway"
	"github.com/braidstream/braid/tenant"
)

// adminListener is --http HOST:PORT[,OPTION=VALUE]…: where the admin API is, and
// whom it lets in.
type adminListener struct {
	Bind string
	// Cert and Key are PEM files; without them it is plain HTTP.
	Cert, Key string
	ClientCA  string
	ClientCRL string // lists of certificates that the client CA revoked
	// ClientAuth is required (the default) or requested, where there is a client CA.
	ClientAuth string
	// SignOn is required or off; "" is off on loopback and required where it is encrypted.
	SignOn  string
	Metrics string // open, or as the rest
	Host    string // names that it is asked by, with a plus between them
	Mapping string
}

func (l *adminListener) field(name string) *string {
	return map[string]*string{"cert": &l.Cert, "key": &l.Key, "client-ca": &l.ClientCA, "client-crl": &l.ClientCRL, "client-auth": &l.ClientAuth,
		"sign-on": &l.SignOn, "metrics": &l.Metrics, "host": &l.Host, "mapping": &l.Mapping}[name]
}

var adminOptions = []string{"cert", "key", "client-ca", "client-crl", "client-auth", "sign-on", "metrics", "host", "mapping"}

const adminForm = "HOST:PORT[,cert=FILE,key=FILE][,client-ca=FILE][,client-crl=FILE][,client-auth=required|requested][,sign-on=required|off][,metrics=open][,host=NAME+…][,mapping=RULES]"

// parseAdminListener reads the flag's form.
func parseAdminListener(s string) (adminListener, error) {
	bind, rest, _ := strings.Cut(s, ",")
	l := adminListener{Bind: bind}
	if err := checkHostPort("--http", bind); err != nil {
		return l, err
	}
	if unknown, ok := fillOptions(rest, l.field); !ok {
		return l, aboutf("--http", ": unknown option %q%s", unknown, didYouMean(unknown, adminOptions))
	}
	_, err := l.security()
	return l, err
}

func (l *adminListener) loopback() bool { return (&listener{Bind: l.Bind}).loopback() }

// security is what the options say.
func (l *adminListener) security() (console.Security, error) {
	s := console.Security{Loopback: l.loopback(), OpenMetrics: l.Metrics == "open"}
	if l.Host != "" {
		s.Hosts = strings.Split(l.Host, "+")
	}
	switch {
	case (l.Cert == "") != (l.Key == ""):
		return s, aboutf("--http", ": cert=FILE and key=FILE go together")
	case l.Cert != "":
		s.TLS = &gateway.TLSFiles{Cert: l.Cert, Key: l.Key, ClientCA: l.ClientCA, ClientCRL: l.ClientCRL, ClientOptional: l.ClientAuth == "requested"}
	case l.ClientCA != "":
		return s, aboutf("--http", ": client-ca needs cert=FILE and key=FILE")
	}
	switch {
	case l.ClientAuth != "" && l.ClientAuth != "required" && l.ClientAuth != "requested":
		return s, aboutf("--http", ": client-auth %q is neither required nor requested", l.ClientAuth)
	case l.ClientCA == "" && l.ClientCRL+l.ClientAuth+l.Mapping != "":
		return s, aboutf("--http", ": client-crl, client-auth and mapping need client-ca=FILE")
	case l.Metrics != "" && l.Metrics != "open":
		return s, aboutf("--http", ": metrics %q: open is what it can be", l.Metrics)
	}
	if l.Mapping != "" {
		m, err := tenant.ParseMapping(l.Mapping)
		if err != nil {
			return s, aboutf("--http", ": %v", err)
		}
		s.Mapping = m
	}
	switch l.SignOn {
	case "required":
		s.Demand = true
	case "off":
		if l.ClientCA != "" {
			return s, aboutf("--http", ": sign-on=off and client-ca exclude one another")
		}
	case "":
		s.Demand = l.ClientCA != "" || !s.Loopback && s.TLS != nil
	default:
		return s, aboutf("--http", ": sign-on %q is neither required nor off", l.SignOn)
	}
	return s, nil
}

// open says how the admin API is open to a network; "" if it is not.
func (l *adminListener) open() string {
	s, err := l.security()
	if err != nil || s.Demand || s.Loopback {
		return ""
	}
	return fmt.Sprintf("the admin API (%s) is not loopback and asks nobody who they are", l.Bind)
}

// warnings name what is open to the network that should not be.
func (l *adminListener) warnings() []string {
	if w := l.open(); w != "" {
		return []string{w}
	}
	if s, err := l.security(); err == nil && s.TLS == nil && !s.Loopback {
		return []string{fmt.Sprintf("the admin API (%s) is not encrypted: whoever can listen on the network reads operators' tokens", l.Bind)}
	}
	return nil
}

// scheme of the admin API's address.
func (l *adminListener) scheme() string {
	if l.Cert != "" {
		return "https"
	}
	return "http"
}

// localTokenName is the file of the data directory that has the local token.
const localTokenName = "admin.token"

// localToken makes the token by which who owns the data directory administers the
// fleet, fresh at each start. It is how the first operator is made, and how one is
// when all are gone. A process that asks nobody, or has no directory, has none.
func (p *process) localToken(demand bool) ([]byte, error) {
	if p.cfg.DataDir == "" {
		return nil, nil
	}
	path := filepath.Join(p.cfg.DataDir, localTokenName)
	if !demand {
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return nil, fmt.Errorf("admin token: %w", err)
		}
		return nil, nil
	}
	token, hash := console.NewToken()
	// What is there may have been made readable: a fresh file is not.
	if err := os.Remove(path + ".new"); err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("admin token: %w", err)
	}
	if err := os.WriteFile(path+".new", []byte(token+"\n"), 0o600); err != nil {
		return nil, fmt.Errorf("admin token: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return nil, fmt.Errorf("admin token: %w", err)
	}
	p.onEnd(func(context.Context) error {
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("admin token: %w", err)
		}
		return nil
	})
	return hash, nil
}
