package acl

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func rule(p Permission, who string, o Operation, t ResourceType, pattern PatternType, name string) Binding {
	return Binding{Type: t, Name: name, Pattern: pattern, Principal: who, Host: Wildcard, Operation: o, Permission: p}
}

var ann = Subject{"User:ann", "10.0.0.1"}

func TestDecisions(t *testing.T) {
	t.Parallel()
	fromTwo := rule(Deny, "User:ann", All, Topic, Literal, "a")
	fromTwo.Host = "10.0.0.2"
	fromLoop := rule(Allow, "User:ann", Read, Topic, Literal, "a")
	fromLoop.Host = "0:0:0:0:0:0:0:1"
	for _, c := range []struct {
		name  string
		rules []Binding
		o     Options
		who   Subject
		op    Operation
		topic string
		want  bool
	}{
		{name: "no rule", who: ann, op: Read, topic: "a"},
		{name: "no rule, lenient", o: Options{Lenient: true}, who: ann, op: Read, topic: "a", want: true},
		{name: "lenient, a rule about somebody else", o: Options{Lenient: true}, rules: []Binding{rule(Allow, "User:bob", Read, Topic, Literal, "a")}, who: ann, op: Read, topic: "a"},
		{name: "literal", rules: []Binding{rule(Allow, "User:ann", Read, Topic, Literal, "a")}, who: ann, op: Read, topic: "a", want: true},
		{name: "literal is no prefix", rules: []Binding{rule(Allow, "User:ann", Read, Topic, Literal, "a")}, who: ann, op: Read, topic: "ab"},
		{name: "prefix", rules: []Binding{rule(Allow, "User:ann", Read, Topic, Prefixed, "a")}, who: ann, op: Read, topic: "ab", want: true},
		{name: "prefix of a prefix", rules: []Binding{rule(Allow, "User:ann", Read, Topic, Prefixed, "a"), rule(Allow, "User:bob", Read, Topic, Prefixed, "ab")}, who: ann, op: Read, topic: "abc", want: true},
		{name: "a sibling lies between", rules: []Binding{rule(Allow, "User:ann", Read, Topic, Prefixed, "a"), rule(Allow, "User:bob", Read, Topic, Prefixed, "ab"), rule(Allow, "User:bob", Read, Topic, Prefixed, "abb")}, who: ann, op: Read, topic: "ac", want: true},
		{name: "deny first", rules: []Binding{rule(Allow, "User:ann", All, Topic, Literal, "a"), rule(Deny, Everyone, Read, Topic, Prefixed, "a")}, who: ann, op: Read, topic: "a"},
		{name: "deny of another operation", rules: []Binding{rule(Allow, "User:ann", All, Topic, Literal, "a"), rule(Deny, Everyone, Write, Topic, Prefixed, "a")}, who: ann, op: Read, topic: "a", want: true},
		{name: "a super user is above denials", o: Options{SuperUsers: []string{"User:ann"}}, rules: []Binding{rule(Deny, Everyone, All, Topic, Literal, Wildcard)}, who: ann, op: Read, topic: "a", want: true},
		{name: "write implies describe", rules: []Binding{rule(Allow, "User:ann", Write, Topic, Literal, "a")}, who: ann, op: Describe, topic: "a", want: true},
		{name: "create implies nothing", rules: []Binding{rule(Allow, "User:ann", Create, Topic, Literal, "a")}, who: ann, op: Describe, topic: "a"},
		{name: "alter configs implies describe configs", rules: []Binding{rule(Allow, "User:ann", AlterConfigs, Topic, Literal, "a")}, who: ann, op: DescribeConfigs, topic: "a", want: true},
		{name: "a denial implies nothing", rules: []Binding{rule(Allow, "User:ann", All, Topic, Literal, "a"), rule(Deny, "User:ann", Read, Topic, Literal, "a")}, who: ann, op: Describe, topic: "a", want: true},
		{name: "denied from another host", rules: []Binding{rule(Allow, Everyone, Read, Topic, Literal, Wildcard), fromTwo}, who: ann, op: Read, topic: "a", want: true},
		{name: "denied from this host", rules: []Binding{rule(Allow, Everyone, Read, Topic, Literal, Wildcard), fromTwo}, who: Subject{"User:ann", "10.0.0.2"}, op: Read, topic: "a"},
		{name: "spellings of an address", rules: []Binding{fromLoop}, who: Subject{"User:ann", Host("::1")}, op: Read, topic: "a", want: true},
		{name: "a name with *", rules: []Binding{rule(Allow, Everyone, All, Topic, Prefixed, "*"), rule(Deny, Everyone, All, Topic, Literal, Wildcard)}, who: ann, op: Read, topic: "*a"},
	} {
		x := Compile(c.rules, c.o)
		if got := x.Allowed(c.who, c.op, Topic, c.topic); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestAllowedOperationsAreThoseOfTheType(t *testing.T) {
	t.Parallel()
	x := Compile([]Binding{rule(Allow, "User:ann", All, Group, Literal, "g"), rule(Deny, "User:ann", Delete, Group, Literal, "g")}, Options{})
	if got, want := x.Operations(ann, Group, "g"), Supported(Group)&^(1<<Delete); got != want {
		t.Errorf("%b, want %b", got, want)
	}
	if got := x.Operations(ann, Group, "h"); got != 0 {
		t.Errorf("%b of a group without rules", got)
	}
}

func TestFilters(t *testing.T) {
	t.Parallel()
	str := func(s string) *string { return &s }
	rules := []Binding{
		rule(Allow, "User:ann", Read, Topic, Literal, "orders"),
		rule(Allow, "User:ann", Read, Topic, Prefixed, "ord"),
		rule(Deny, Everyone, All, Topic, Literal, Wildcard),
		rule(Allow, "User:bob", Read, Group, Literal, "orders"),
	}
	for _, c := range []struct {
		name string
		set  func(*Filter)
		want string // indexes of rules
	}{
		{"all", func(*Filter) {}, "[0 1 2 3]"},
		{"type", func(f *Filter) { f.Type = Group }, "[3]"},
		{"name", func(f *Filter) { f.Name = str("orders") }, "[0 3]"},
		{"match", func(f *Filter) { f.Name, f.Pattern = str("orders"), Match }, "[0 1 2 3]"},
		{"match of another name", func(f *Filter) { f.Name, f.Pattern, f.Type = str("ordinal"), Match, Topic }, "[1 2]"},
		{"prefixed", func(f *Filter) { f.Pattern = Prefixed }, "[1]"},
		{"principal", func(f *Filter) { f.Principal = str("User:bob") }, "[3]"},
		{"permission and operation", func(f *Filter) { f.Permission, f.Operation = Allow, Read }, "[0 1 3]"},
		{"host", func(f *Filter) { f.Host = str("10.0.0.1") }, "[]"},
	} {
		f := Everything()
		c.set(&f)
		got := []int{}
		for i, b := range rules {
			if f.Matches(b) {
				got = append(got, i)
			}
		}
		if err := f.Validate(); err != nil || fmt.Sprint(got) != c.want {
			t.Errorf("%s: %v, want %s (%v)", c.name, got, c.want, err)
		}
	}
	if err := (Filter{}).Validate(); !errors.Is(err, ErrInvalid) {
		t.Errorf("an empty filter: %v", err)
	}
}

func TestBadRulesAreRefused(t *testing.T) {
	t.Parallel()
	good := rule(Allow, "User:ann", Read, Topic, Literal, "a")
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Binding){
		"type":             func(b *Binding) { b.Type = 0 },
		"any type":         func(b *Binding) { b.Type = AnyType },
		"large type":       func(b *Binding) { b.Type = 99 },
		"tokens":           func(b *Binding) { b.Type = DelegationToken },
		"pattern":          func(b *Binding) { b.Pattern = Match },
		"operation":        func(b *Binding) { b.Operation = AnyOperation },
		"large operation":  func(b *Binding) { b.Operation = 100 },
		"permission":       func(b *Binding) { b.Permission = AnyPermission },
		"no name":          func(b *Binding) { b.Name = "" },
		"long name":        func(b *Binding) { b.Name = strings.Repeat("x", 10<<10) },
		"control in name":  func(b *Binding) { b.Name = "a\x00b" },
		"another cluster":  func(b *Binding) { b.Type, b.Name = Cluster, "mine" },
		"principal":        func(b *Binding) { b.Principal = "ann" },
		"no principal":     func(b *Binding) { b.Principal = "" },
		"empty user":       func(b *Binding) { b.Principal = "User:" },
		"long principal":   func(b *Binding) { b.Principal = "User:" + strings.Repeat("x", 10<<10) },
		"newline in user":  func(b *Binding) { b.Principal = "User:a\nb" },
		"no host":          func(b *Binding) { b.Host = "" },
		"long host":        func(b *Binding) { b.Host = strings.Repeat("x", 10<<10) },
		"negative pattern": func(b *Binding) { b.Pattern = -1 },
	} {
		b := good
		spoil(&b)
		if err := b.Validate(); !errors.Is(err, ErrInvalid) || len(err.Error()) > 200 {
			t.Errorf("%s: %v", name, err)
		}
		if x := Compile([]Binding{b, good}, Options{}); len(x.Rules()) != 1 || !x.Allowed(ann, Read, Topic, "a") {
			t.Errorf("%s: the index has %v", name, x.Rules())
		}
	}
	if good.Type = Cluster; good.Meaningful() == nil {
		t.Error("the cluster cannot be read")
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"DescribeConfigs", "describe-configs", "DESCRIBE_CONFIGS"} {
		if o, err := ParseOperation(s); err != nil || o != DescribeConfigs {
			t.Errorf("%s: %v, %v", s, o, err)
		}
	}
	if _, err := ParseOperation("unknown"); err == nil {
		t.Error("unknown is an operation")
	}
	if k, err := ParseResourceType("transactional-id"); err != nil || k.String() != "TRANSACTIONAL_ID" {
		t.Errorf("%v, %v", k, err)
	}
	if p, err := ParsePatternType("prefixed"); err != nil || p != Prefixed {
		t.Errorf("%v, %v", p, err)
	}
	if p, err := ParsePermission("Deny"); err != nil || p != Deny {
		t.Errorf("%v, %v", p, err)
	}
	if s := Operation(77).String(); s != "UNKNOWN" {
		t.Error(s)
	}
}

func TestLockout(t *testing.T) {
	t.Parallel()
	admin := rule(Allow, "User:ann", Alter, Cluster, Literal, ClusterName)
	other := rule(Allow, "User:bob", Read, Topic, Literal, "a")
	none := Compile(nil, Options{})
	denied := rule(Deny, Everyone, All, Topic, Literal, Wildcard)
	root := Options{SuperUsers: []string{"User:root"}}
	lenient := Options{Lenient: true}
	describe := rule(Allow, "User:bob", Describe, Cluster, Literal, ClusterName)
	for _, c := range []struct {
		name          string
		before, after *Index
		refused       bool
	}{
		{"a first rule", none, Compile([]Binding{other}, Options{}), true},
		{"a first rule that makes an admin", none, Compile([]Binding{other, admin}, Options{}), false},
		{"a first super user", none, Compile(nil, root), false},
		{"everything of the cluster is denied to everybody", Compile(nil, root), Compile([]Binding{rule(Deny, Everyone, All, Cluster, Literal, ClusterName)}, root), true},
		{"and by a prefix", Compile(nil, root), Compile([]Binding{rule(Deny, Everyone, All, Cluster, Prefixed, "kafka")}, root), true},
		{"the last admin", Compile([]Binding{admin, other}, Options{}), Compile([]Binding{other}, Options{}), true},
		{"an admin who is denied now", Compile([]Binding{admin}, Options{}), Compile([]Binding{admin, rule(Deny, Everyone, Alter, Cluster, Literal, ClusterName)}, Options{}), true},
		{"super users are left", Compile([]Binding{admin}, Options{SuperUsers: []string{"User:root"}}), Compile(nil, Options{SuperUsers: []string{"User:root"}}), false},
		{"everybody is denied", none, Compile([]Binding{rule(Deny, Everyone, All, Topic, Literal, Wildcard)}, Options{}), true},
		{"everybody was denied before", Compile([]Binding{denied}, root), Compile([]Binding{denied, other}, root), false},
		{"everybody is denied on another type", Compile([]Binding{denied}, root), Compile([]Binding{denied, rule(Deny, Everyone, All, Group, Literal, Wildcard)}, root), true},
		{"nobody was left before", Compile([]Binding{other}, Options{}), Compile([]Binding{other, rule(Allow, "User:ann", Read, Topic, Literal, "a")}, Options{}), false},
		{"the last super user", Compile([]Binding{other}, root), Compile([]Binding{other}, Options{}), true},
		{"lenient: a first rule of a topic", Compile(nil, lenient), Compile([]Binding{other}, lenient), false},
		{"lenient: the last admin, and with it the last rule of the cluster", Compile([]Binding{admin, other}, lenient), Compile([]Binding{other}, lenient), false},
		{"lenient: a first rule of the cluster that makes no admin", Compile([]Binding{other}, lenient), Compile([]Binding{other, describe}, lenient), true},
		{"lenient: one that makes an admin", Compile([]Binding{other}, lenient), Compile([]Binding{other, admin}, lenient), false},
		{"lenient: the last admin, with another rule of the cluster left", Compile([]Binding{admin, describe}, lenient), Compile([]Binding{describe}, lenient), true},
		{"lenience ends with no admin", Compile([]Binding{other}, lenient), Compile([]Binding{other}, Options{}), true},
		{"one topic is denied", Compile(nil, root), Compile([]Binding{rule(Deny, Everyone, All, Topic, Literal, "a")}, root), false},
	} {
		err := Lockout(c.before, c.after, nil)
		if refused := errors.As(err, new(*LockoutError)); refused != c.refused {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// One question, whatever changes: is somebody left who may change the rules and can sign on, where somebody was?
func TestLockoutOfThoseWhoCanSignOn(t *testing.T) {
	t.Parallel()
	known := map[string]bool{"User:ann": true, "User:bob": true}
	alter := func(p Permission, who string) Binding { return rule(p, who, Alter, Cluster, Literal, ClusterName) }
	app := rule(Allow, "User:bob", Read, Topic, Literal, "a")
	supers := func(who ...string) Options { return Options{SuperUsers: who} }
	lenient := Options{Lenient: true}
	for _, c := range []struct {
		name          string
		before, after *Index
		refused       string
	}{
		{"a first super user who is none", Compile(nil, Options{}), Compile(nil, supers("User:anm")), "User:anm"},
		{"one of two is", Compile(nil, Options{}), Compile(nil, supers("User:anm", "User:ann")), ""},
		{"a first rule", Compile(nil, Options{}), Compile([]Binding{app}, Options{}), "First name a super user"},
		{"with an admin who is none", Compile(nil, Options{}), Compile([]Binding{app, alter(Allow, "User:anm")}, Options{}), "User:anm"},
		{"with an admin", Compile(nil, Options{}), Compile([]Binding{app, alter(Allow, "User:ann")}, Options{}), ""},
		{"with everybody", Compile(nil, Options{}), Compile([]Binding{alter(Allow, Everyone)}, Options{}), ""},
		{"everybody, and each is denied", Compile([]Binding{alter(Allow, Everyone)}, Options{}),
			Compile([]Binding{alter(Allow, Everyone), alter(Deny, "User:ann"), alter(Deny, "User:bob")}, Options{}), "User:*"},
		{"everybody, and one is denied", Compile([]Binding{alter(Allow, Everyone)}, Options{}), Compile([]Binding{alter(Allow, Everyone), alter(Deny, "User:ann")}, Options{}), ""},
		{"the last admin is denied, a stranger is left", Compile([]Binding{alter(Allow, "User:ann"), alter(Allow, "User:CN=ops")}, Options{}),
			Compile([]Binding{alter(Allow, "User:ann"), alter(Allow, "User:CN=ops"), alter(Deny, "User:ann")}, Options{}), "User:CN=ops"},
		{"denied, and a super user", Compile([]Binding{alter(Allow, "User:ann")}, supers("User:ann")), Compile([]Binding{alter(Allow, "User:ann"), alter(Deny, Everyone)}, supers("User:ann")), ""},
		{"denied, and a super user who is none", Compile([]Binding{alter(Allow, "User:ann")}, supers("User:anm")), Compile([]Binding{alter(Allow, "User:ann"), alter(Deny, Everyone)}, supers("User:anm")), "User:anm"},
		{"strangers only, before and after", Compile(nil, supers("User:CN=a")), Compile(nil, supers("User:CN=b")), ""},
		{"lenient: a stranger is named", Compile([]Binding{app}, lenient), Compile([]Binding{app}, Options{Lenient: true, SuperUsers: []string{"User:anm"}}), ""},
		{"lenience ends, a stranger is named", Compile([]Binding{app}, lenient), Compile([]Binding{app}, supers("User:CN=a")), ""},
		{"lenience ends with no admin", Compile([]Binding{app}, lenient), Compile([]Binding{app}, Options{}), "nobody would be left"},
	} {
		err := Lockout(c.before, c.after, known)
		if (err != nil) != (c.refused != "") || err != nil && !strings.Contains(err.Error(), c.refused) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// Of a lenient tenant without rules of the cluster nobody is the last who may change the rules.
func TestLenienceNeedsNoAdmin(t *testing.T) {
	t.Parallel()
	nobody := func(string) bool { return false }
	other, admin := rule(Allow, "User:bob", Read, Topic, Literal, "a"), rule(Allow, "User:ann", Alter, Cluster, Literal, ClusterName)
	for _, c := range []struct {
		name       string
		x          *Index
		everybody  bool
		annIsAlone bool
	}{
		{"lenient", Compile([]Binding{other}, Options{Lenient: true}), true, false},
		{"lenient with a rule of the cluster", Compile([]Binding{other, admin}, Options{Lenient: true}), false, true},
		{"strict", Compile([]Binding{other}, Options{}), false, false},
	} {
		if got := c.x.AdministeredBy(nobody); got != c.everybody {
			t.Errorf("%s: administered by everybody: %v", c.name, got)
		}
		if err := c.x.LastAdmin("ann", nobody); (err != nil) != c.annIsAlone {
			t.Errorf("%s: ann is alone: %v", c.name, err)
		}
	}
}

// thousand are rules as a large tenant has them: half of them prefixes.
func thousand() *Index {
	var rules []Binding
	for i := range 1000 {
		pattern := Literal
		if i%2 == 0 {
			pattern = Prefixed
		}
		rules = append(rules, rule(Allow, fmt.Sprintf("User:u%d", i%50), Read, Topic, pattern, fmt.Sprintf("team-%d.orders-%d", i%20, i)))
	}
	return Compile(append(rules, rule(Allow, "User:ann", Write, Topic, Prefixed, "team-")), Options{})
}

func TestADecisionAllocatesNothing(t *testing.T) {
	x := thousand()
	name := []byte("team-13.orders-333.v2")
	if n := testing.AllocsPerRun(100, func() {
		if !x.Allowed(ann, Write, Topic, string(name)) {
			t.Error("denied")
		}
	}); n > 1 { // the string of the name
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkDecision(b *testing.B) {
	x := thousand()
	for b.Loop() {
		if !x.Allowed(ann, Write, Topic, "team-13.orders-333.v2") {
			b.Fatal("denied")
		}
	}
}
