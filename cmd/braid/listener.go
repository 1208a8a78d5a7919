package main

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/gateway"
	"github.com/braidstream/braid/tenant"
	"github.com/braidstream/braid/tenant/sasl"
)

// listener is one --listener NAME=HOST:PORT[,OPTION=VALUE]...
type listener struct {
	Name      string `json:"name"`
	Bind      string `json:"bind"`
	Advertise string `json:"advertise,omitempty"`
	Zone      string `json:"zone,omitempty"`

	// Security is PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL; "" is PLAINTEXT.
	Security string `json:"security,omitempty"`
	Cert     string `json:"cert,omitempty"`
	Key      string `json:"key,omitempty"`
	ClientCA string `json:"client-ca,omitempty"`
	// ClientCRL is a file with lists of certificates that the client CA revoked.
	ClientCRL string `json:"client-crl,omitempty"`
	// ClientAuth is required (the default) or requested, where there is a client CA.
	ClientAuth string `json:"client-auth,omitempty"`
	// SASL lists mechanisms with a plus between them, or none; "" is the default.
	SASL      string `json:"sasl,omitempty"`
	Tenant    string `json:"tenant,omitempty"`
	SNIDomain string `json:"sni-domain,omitempty"`
	Mapping   string `json:"mapping,omitempty"`
}

// field is where an option of the flag, or a key of the file, goes.
func (l *listener) field(name string) *string {
	return map[string]*string{
		"advertise": &l.Advertise, "zone": &l.Zone, "security": &l.Security, "cert": &l.Cert, "key": &l.Key, "client-ca": &l.ClientCA, "client-crl": &l.ClientCRL,
		"client-auth": &l.ClientAuth, "sasl": &l.SASL, "tenant": &l.Tenant, "sni-domain": &l.SNIDomain, "mapping": &l.Mapping,
	}[name]
}

var listenerOptions = []string{"advertise", "zone", "security", "cert", "key", "client-ca", "client-crl", "client-auth", "sasl", "tenant", "sni-domain", "mapping"}

const listenerForm = "NAME=HOST:PORT[,advertise=HOST:PORT][,zone=Z][,security=PLAINTEXT|SSL|SASL_PLAINTEXT|SASL_SSL]" +
	"[,cert=FILE,key=FILE][,client-ca=FILE][,client-crl=FILE][,client-auth=required|requested][,sasl=MECHANISM+…][,tenant=T][,sni-domain=D][,mapping=RULES]"

// parseListener reads the flag's form.
func parseListener(s string) (listener, error) {
	name, rest, ok := strings.Cut(s, "=")
	if !ok || name == "" {
		return listener{}, usagef("--listener wants %s, not %q", listenerForm, s)
	}
	bind, rest, _ := strings.Cut(rest, ",")
	l := listener{Name: name, Bind: bind}
	if unknown, ok := fillOptions(rest, l.field); !ok {
		return listener{}, aboutf("--listener "+name, ": unknown option %q%s", unknown, didYouMean(unknown, listenerOptions))
	}
	return l, l.check()
}

// fillOptions reads KEY=VALUE,… into the fields of a listener, which are nil for what
// is none: that one is returned. The rules of mapping hold commas, so they come last.
func fillOptions(rest string, field func(key string) *string) (unknown string, ok bool) {
	for rest != "" {
		option := rest
		if !strings.HasPrefix(rest, "mapping=") {
			option, rest, _ = strings.Cut(rest, ",")
		} else {
			rest = ""
		}
		k, v, _ := strings.Cut(option, "=")
		to := field(k)
		if to == nil {
			return k, false
		}
		*to = v
	}
	return "", true
}

// check tells what is wrong with a listener, as far as no file has to be read.
func (l *listener) check() error {
	what := "--listener " + l.Name
	if err := checkHostPort(what, l.Bind); err != nil {
		return err
	}
	if l.Advertise != "" {
		if err := checkHostPort(what+" advertise", l.Advertise); err != nil {
			return err
		}
	}
	_, err := l.gateway(nil)
	return err
}

// gateway turns the options into what a gateway knows. tokens tells whether an
// issuer of tokens is configured.
func (l *listener) gateway(tokens *bool) (gateway.Security, error) {
	what := "--listener " + l.Name
	s := gateway.Security{Tenant: l.Tenant, ServerNames: l.SNIDomain}
	if l.Tenant == catalog.SystemTenant {
		return s, aboutf(what, ": tenant %s is Braid's own", l.Tenant)
	}
	encrypted, signsOn := false, false
	switch strings.ToUpper(l.Security) {
	case "", "PLAINTEXT":
	case "SSL":
		encrypted = true
	case "SASL_PLAINTEXT":
		signsOn = true
	case "SASL_SSL":
		encrypted, signsOn = true, true
	default:
		return s, aboutf(what, ": security %q is none of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL", l.Security)
	}
	if encrypted {
		if l.Cert == "" || l.Key == "" {
			return s, aboutf(what, ": %s needs cert=FILE and key=FILE", l.Security)
		}
		s.TLS = &gateway.TLSFiles{Cert: l.Cert, Key: l.Key, ClientCA: l.ClientCA, ClientCRL: l.ClientCRL}
	} else if l.Cert+l.Key+l.ClientCA+l.ClientCRL+l.ClientAuth+l.SNIDomain+l.Mapping != "" {
		return s, aboutf(what, ": cert, key, client-ca, client-crl, client-auth, sni-domain and mapping need security=SSL or SASL_SSL")
	}
	switch l.ClientAuth {
	case "", "required":
	case "requested":
		if s.TLS != nil {
			s.TLS.ClientOptional = true
		}
	default:
		return s, aboutf(what, ": client-auth %q is neither required nor requested", l.ClientAuth)
	}
	if l.ClientCA == "" && l.ClientCRL+l.ClientAuth+l.Mapping != "" {
		return s, aboutf(what, ": client-crl, client-auth and mapping need client-ca=FILE")
	}
	if l.Mapping != "" {
		m, err := tenant.ParseMapping(l.Mapping)
		if err != nil {
			return s, aboutf(what, ": %v", err)
		}
		s.Mapping = m
	}
	if l.ClientCA != "" && l.Mapping == "" && l.Tenant == "" && !signsOn {
		return s, aboutf(what, ": a certificate's subject names no tenant, so nobody would be let in by one: give the listener tenant=NAME, or mapping=RULES whose result is PRINCIPAL@TENANT")
	}
	s.Demand = signsOn || l.ClientCA != "" && l.ClientAuth != "requested"
	var err error
	if s.Mechanisms, err = l.mechanisms(signsOn, encrypted, tokens); err != nil {
		return s, err
	}
	if signsOn && len(s.Mechanisms) == 0 {
		return s, aboutf(what, ": %s needs a mechanism (sasl=SCRAM-SHA-512)", l.Security)
	}
	return s, nil
}

// mechanisms are those that a listener speaks. A password crosses the network in
// the clear by PLAIN, so it is not among the defaults without TLS, but on loopback.
func (l *listener) mechanisms(signsOn, encrypted bool, tokens *bool) ([]string, error) {
	if l.SASL == "none" {
		return nil, nil
	}
	if l.SASL != "" {
		list := strings.Split(strings.ToUpper(l.SASL), "+")
		for i, m := range list {
			if !sasl.Known(m) {
				return nil, aboutf("--listener "+l.Name, ": unknown mechanism %q: %s, with a plus between them", m, strings.Join(sasl.Mechanisms(), ", "))
			}
			if slices.Contains(list[:i], m) {
				return nil, aboutf("--listener "+l.Name, ": mechanism %s is given twice", m)
			}
			if m == sasl.OAuthBearer && tokens != nil && !*tokens {
				return nil, aboutf("--listener "+l.Name, ": OAUTHBEARER needs --set sasl.oauthbearer.expected.issuer=URL and sasl.oauthbearer.expected.audience")
			}
		}
		return list, nil
	}
	if encrypted && !signsOn {
		return nil, nil
	}
	list := []string{sasl.ScramSHA512, sasl.ScramSHA256}
	if encrypted || l.loopback() {
		list = append(list, sasl.Plain)
	}
	if tokens != nil && *tokens {
		list = append(list, sasl.OAuthBearer)
	}
	return list, nil
}

// loopback tells whether only this machine reaches the listener.
func (l *listener) loopback() bool {
	host, _, err := net.SplitHostPort(l.Bind)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// letsIn tells whether a listener lets clients of the default tenant in unasked.
func (l *listener) letsIn() bool {
	s, err := l.gateway(nil)
	return err == nil && !s.Demand && (l.Tenant == "" || l.Tenant == catalog.DefaultTenant)
}

// open says how a listener is open to a network without authentication; "" if it is not.
func (l *listener) open() string {
	s, err := l.gateway(nil)
	if err != nil || s.Demand || l.loopback() {
		return ""
	}
	return fmt.Sprintf("listener %s (%s) is not loopback and asks nobody who they are", l.Name, l.Bind)
}

// warnings name what is open to the network that should not be.
func (l *listener) warnings() []string {
	var out []string
	if w := l.open(); w != "" {
		out = append(out, w)
	}
	s, err := l.gateway(nil)
	if err == nil && s.TLS == nil && s.Demand && !l.loopback() {
		w := fmt.Sprintf("listener %s (%s) is not encrypted: whoever can listen on the network reads records", l.Name, l.Bind)
		if slices.Contains(s.Mechanisms, sasl.Plain) || slices.Contains(s.Mechanisms, sasl.OAuthBearer) {
			w += ", passwords and tokens"
		}
		out = append(out, w)
	}
	return out
}

// checkHostPort demands HOST:PORT with a port of 0 to 65535.
func checkHostPort(what, s string) error {
	_, port, err := net.SplitHostPort(s)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
		if err == nil {
			return nil
		}
		if errors.Is(err, strconv.ErrRange) {
			return aboutf(what, ": port %s of %q is out of range: 0 to 65535", port, s)
		}
	}
	return aboutf(what, " wants HOST:PORT, not %q", s)
}

// shift adds n to the port of HOST:PORT; port 0 stays 0.
func shift(hostPort string, n int) (string, error) {
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return "", err
	}
	p, err := strconv.Atoi(port)
	if err != nil {
		return "", err
	}
	if p != 0 {
		p += n
	}
	if p > 65535 {
		return "", usagef("port %d is past 65535: %d gateways need that many consecutive ports from %s", p, n+1, port)
	}
	return net.JoinHostPort(host, strconv.Itoa(p)), nil
}
