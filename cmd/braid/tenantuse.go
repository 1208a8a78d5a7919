package main

import (
	"fmt"
	"io"
	"net"
	"strings"
	"unicode/utf16"

	"github.com/spf13/cobra"

	"github.com/braidstream/braid/console/api"
	"github.com/braidstream/braid/tenant/sasl"
)

// usage forms of a tenant's connection.
var useForms = []string{"properties", "kcat", "python", "go", "all"}

// connection is how a tenant's clients connect.
type connection struct {
	Tenant    string   `json:"tenant"`
	Listener  string   `json:"listener"`
	Bootstrap []string `json:"bootstrap"`
	Security  string   `json:"security"` // PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL
	Mechanism string   `json:"mechanism,omitempty"`
	User      string   `json:"user,omitempty"`
	// Forms by name: client.properties, and what one types or writes elsewhere.
	Forms map[string]string `json:"forms"`

	password string
}

func newTenantUse(e *env) *cobra.Command {
	var user, listenerName, mechanism, passwordFile, form string
	cmd := &cobra.Command{
		Use:   "use NAME",
		Short: "Print what a tenant's clients are configured with",
		Long: `Print a client.properties for a tenant, or the same for kcat, Python and Go. The password is a
placeholder unless --password-file is given. Of several listeners that serve the tenant the first
is taken, one that is its own before one that tells tenants apart by user.`,
		Example: `  braid tenant use acme --user alice > client.properties
  braid tenant use acme --user alice --password-file alice.password --form kcat`,
		Args:              names(1, 1, "the name of a tenant"),
		ValidArgsFunction: e.first(allTenants),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !contains(useForms, form) {
				return usagef("--form: unknown form %q%s", form, didYouMean(form, useForms))
			}
			c, err := e.client()
			if err != nil {
				return err
			}
			t, err := c.Tenant(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if t.State != "active" {
				return fmt.Errorf("tenant %s is being deleted (braid tenant undelete %s)", t.Name, t.Name)
			}
			users, err := c.Users(cmd.Context(), t.Name)
			if err != nil {
				return err
			}
			status, err := c.Status(cmd.Context())
			if err != nil {
				return err
			}
			x, err := connect(t.Name, status.Gateways, users, listenerName, user, mechanism)
			if err != nil {
				return err
			}
			if passwordFile != "" {
				if x.password, err = readSecret("password", passwordFile, sasl.MaxPassword); err != nil {
					return err
				}
			}
			x.fill()
			return e.print(x, func(w io.Writer) error {
				if form != "all" {
					_, err := io.WriteString(w, x.Forms[form])
					return err
				}
				for i, f := range useForms[:len(useForms)-1] {
					if i > 0 {
						f = "\n" + f
					}
					if _, err := fmt.Fprintf(w, "%s:\n%s", f, x.Forms[strings.TrimSpace(f)]); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&user, "user", "", "who signs on (default: the tenant's only user)")
	f.StringVar(&listenerName, "listener", "", "by which listener (default: the first that serves the tenant)")
	f.StringVar(&mechanism, "mechanism", "", "SASL mechanism (default: one that both user and listener have)")
	f.StringVar(&passwordFile, "password-file", "", "put this password in; readable by its owner alone")
	f.StringVar(&form, "form", "properties", strings.Join(useForms, ", "))
	complete(cmd, "form", useForms...)
	e.completeFlag(cmd, "user", usersOf(firstArg, ""))
	e.completeFlag(cmd, "listener", allListeners)
	complete(cmd, "mechanism", sasl.ScramSHA256, sasl.ScramSHA512, sasl.Plain)
	return cmd
}

// connect chooses a listener and how to sign on.
func connect(tenant string, gateways []api.Gateway, users []api.User, listener, user, mechanism string) (*connection, error) {
	var chosen *api.Listener
	var known []string
	for pass := range 2 {
		for i := range gateways {
			for j := range gateways[i].Listeners {
				l := &gateways[i].Listeners[j]
				known = append(known, l.Name)
				own := l.Tenant == tenant || l.Tenant == "" && tenant == "default" && (len(l.Mechanisms) == 0 || !strings.HasPrefix(l.Security, "SASL_"))
				if chosen == nil && (listener == "" || l.Name == listener) && (own || pass == 1 && l.Tenant == "" && len(l.Mechanisms)+len(l.ServerNames) > 0) {
					chosen = l
				}
			}
		}
	}
	if chosen == nil {
		if listener != "" && !contains(known, listener) {
			return nil, fmt.Errorf("no listener %q%s", listener, didYouMean(listener, known))
		}
		return nil, fmt.Errorf("no listener serves tenant %s: start a gateway with --listener NAME=HOST:PORT,sasl=SCRAM-SHA-256 (tenants are told apart by user), or with ,tenant=%s", tenant, tenant)
	}
	x := &connection{Tenant: tenant, Listener: chosen.Name, Security: chosen.Security, Forms: map[string]string{}}
	if x.Security == "" {
		x.Security = "PLAINTEXT"
	}
	for i := range gateways {
		for _, l := range gateways[i].Listeners {
			if l.Name == chosen.Name && !gateways[i].Draining {
				x.Bootstrap = append(x.Bootstrap, named(l.Advertise, tenant, chosen.ServerNames))
			}
		}
	}
	if len(x.Bootstrap) > 3 {
		x.Bootstrap = x.Bootstrap[:3] // the rest is found by the client
	}
	if len(chosen.Mechanisms) == 0 {
		if user != "" || mechanism != "" {
			return nil, fmt.Errorf("listener %s asks nobody to sign on", chosen.Name)
		}
		return x, nil
	}
	if !strings.HasPrefix(x.Security, "SASL_") {
		// Who does not sign on is let in as nobody, to one tenant.
		if user == "" && mechanism == "" && (chosen.Tenant == tenant || chosen.Tenant == "" && tenant == "default") {
			return x, nil
		}
		x.Security = "SASL_" + x.Security
	}
	return x, x.signOn(chosen, users, user, mechanism)
}

// named puts the tenant before the domain by which a listener tells tenants apart.
func named(address, tenant, domain string) string {
	if domain == "" {
		return address
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return net.JoinHostPort(tenant+"."+domain, port)
}

// signOn chooses user and mechanism.
func (x *connection) signOn(l *api.Listener, users []api.User, user, mechanism string) error {
	var known []string
	for _, u := range users {
		known = append(known, u.Name)
	}
	if user == "" {
		if len(users) != 1 {
			return fmt.Errorf("tenant %s has %s: name one with --user (braid user list --tenant %s)", x.Tenant, plural(len(users), "user", "users"), x.Tenant)
		}
		user = users[0].Name
	}
	var has []string
	anywhere := user + "@" + x.Tenant
	for _, u := range users {
		if u.Name == user {
			has = u.Mechanisms
			if u.SignsOn != "" { // NAME@TENANT may be what another user goes by
				anywhere = u.SignsOn
			}
		}
	}
	if has == nil {
		return fmt.Errorf("no user %q in tenant %s%s", user, x.Tenant, didYouMean(user, known))
	}
	for _, m := range l.Mechanisms {
		// PLAIN is checked against any credential.
		if (mechanism == "" || m == mechanism) && (contains(has, m) || m == "PLAIN" && len(has) > 0) && (x.Mechanism == "" || x.Mechanism == "PLAIN") {
			x.Mechanism = m
		}
	}
	if x.Mechanism == "" {
		return fmt.Errorf("user %s has %s, listener %s takes %s: braid user rotate %s --tenant %s --mechanism M adds one",
			user, strings.Join(has, ", "), l.Name, strings.Join(l.Mechanisms, ", "), user, x.Tenant)
	}
	x.User = user
	if l.Tenant == "" && l.ServerNames == "" {
		x.User = anywhere
	}
	return nil
}

// fill writes the forms.
func (x *connection) fill() {
	servers := strings.Join(x.Bootstrap, ",")
	pass := x.password
	if pass == "" {
		pass = "PASSWORD"
	}
	tls, sign := strings.HasSuffix(x.Security, "SSL"), x.Mechanism != ""
	props := []string{"bootstrap.servers=" + servers, "security.protocol=" + x.Security}
	kcat := []string{"kcat -b " + servers, "-X security.protocol=" + x.Security}
	py := []string{fmt.Sprintf("    %q: %q,", "bootstrap.servers", servers), fmt.Sprintf("    %q: %q,", "security.protocol", x.Security)}
	code := []string{fmt.Sprintf("\tkgo.SeedBrokers(%s),", quoteList(x.Bootstrap))}
	if tls {
		const ca = "/path/to/ca.pem"
		props = append(props, "ssl.truststore.type=PEM", "ssl.truststore.location="+ca)
		kcat = append(kcat, "-X ssl.ca.location="+ca)
		py = append(py, fmt.Sprintf("    %q: %q,", "ssl.ca.location", ca))
		code = append(code, "\tkgo.DialTLSConfig(&tls.Config{RootCAs: roots}), // roots hold the CA of the gateways")
	}
	if sign {
		class := "org.apache.kafka.common.security.scram.ScramLoginModule"
		if x.Mechanism == "PLAIN" {
			class = "org.apache.kafka.common.security.plain.PlainLoginModule"
		}
		props = append(props, "sasl.mechanism="+x.Mechanism,
			fmt.Sprintf("sasl.jaas.config=%s required username=%s password=%s;", class, jaas(x.User), jaas(pass)))
		kcat = append(kcat, "-X sasl.mechanism="+x.Mechanism, "-X "+shell("sasl.username="+x.User), "-X "+shell("sasl.password="+pass))
		py = append(py, fmt.Sprintf("    %q: %q,", "sasl.mechanism", x.Mechanism),
			fmt.Sprintf("    %q: %q,", "sasl.username", x.User), fmt.Sprintf("    %q: %q,", "sasl.password", pass))
		auth := map[string]string{"PLAIN": "plain.Auth{User: %q, Pass: %q}.AsMechanism()",
			"SCRAM-SHA-256": "scram.Auth{User: %q, Pass: %q}.AsSha256Mechanism()", "SCRAM-SHA-512": "scram.Auth{User: %q, Pass: %q}.AsSha512Mechanism()"}[x.Mechanism]
		code = append(code, "\tkgo.SASL("+fmt.Sprintf(auth, x.User, pass)+"),")
	}
	x.Forms["properties"] = escaped(strings.Join(props, "\n") + "\n")
	x.Forms["kcat"] = strings.Join(kcat, " ") + " -L\n"
	x.Forms["python"] = "from confluent_kafka import Producer\nproducer = Producer({\n" + strings.Join(py, "\n") + "\n})\n"
	x.Forms["go"] = "client, err := kgo.NewClient(\n" + strings.Join(code, "\n") + "\n)\n"
}

// escaped is a properties file as java.util.Properties reads one from a stream of bytes: what is not ASCII would be
// taken for ISO 8859-1.
func escaped(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r < 0x80 {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&b, "\\u%04x", unit)
		}
	}
	return b.String()
}

// jaas quotes a value of sasl.jaas.config, which a properties file holds: a
// backslash is doubled for each of the two readers.
func jaas(s string) string {
	s = strings.ReplaceAll(s, `\`, `\\\\`)
	return `"` + strings.ReplaceAll(s, `"`, `\\"`) + `"`
}

// shell quotes an argument where it needs it.
func shell(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("=._-@/:", r)
	}) {
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	return s
}

func quoteList(list []string) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = fmt.Sprintf("%q", s)
	}
	return strings.Join(out, ", ")
}
