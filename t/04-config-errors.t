#!/usr/bin/perl
# A wrong configuration is told with its place, what is wrong, and what would be right.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use File::Spec;
use TestUtil;

my $dir = temp_dir();
my $program = ($ENV{POSTERN} // builddir() . '/postern');
my $good = "listener front { listen 127.0.0.1:10025; backend inner }\n"
    . "backend inner { hosts 127.0.0.1:10026 }\n";
my $back = "backend inner { discard yes }\n";

# Runs it; the exit status and what it said on stdout and stderr together, our folder's name left out.
sub postern
{
	my (@args) = @_;
	my $out = `cd '$dir' && '@{[ File::Spec->rel2abs($program) ]}' @args 2>&1 </dev/null`;

	return ($? >> 8, $out);
}

sub check
{
	my ($conf, @flags) = @_;

	write_file("$dir/p", $conf);
	return postern(@flags ? @flags : '-t', '-c', 'p');
}

# Only the text, without looking for users, folders and ports as -t does: what was said on stderr.
sub read_text
{
	my ($conf) = @_;

	write_file("$dir/p", $conf);
	my $said = `cd '$dir' && '@{[ File::Spec->rel2abs($program) ]}' -T -c p 2>&1 >/dev/null </dev/null`;
	return ($? >> 8, $said);
}

# A back-end with these options.
sub back { return "backend other { hosts mail.example:25; $_[0] }" }

write_file("$dir/list", "# partners\npartner.example\n  *\@a.example\nc\@a.example # later\n");
write_file("$dir/pattern", "a\@b.example\n/(/\n");

# name, configuration (behind two good lines, unless it says of itself that it is whole), messages
my @broken = (
	# words and blocks
	[ 'a block nobody knows', "lisener x { }",
		'p:3:1: unknown block "lisener" at the top level (did you mean "listener"?)' ],
	[ 'an option nobody knows', "wrokers 4",
		'p:3:1: unknown option "wrokers" at the top level (did you mean "workers"?)' ],
	[ 'an option like nothing else', "zzz 4", 'p:3:1: unknown option "zzz" at the top level (postern -T default shows all there are)' ],
	[ 'an option of another block', "max_hops 4",
		'p:3:1: unknown option "max_hops" at the top level (it is known in listener)' ],
	# programs
	[ 'a scanner that does not see the message', 'scanner f { command /bin/cat }', 'p:3:1: scanner f: the command does not see the message (give it %f, or say pipe yes)' ],
	[ 'a scanner with a letter of exec', 'scanner f { command /bin/cat %n }',
		'p:3:1: scanner f: command: "%n": there is no %n (there are: f s r R a e l i t; %% is a percent sign)' ],
	[ 'a scanner with a word for a pattern', 'scanner f { command /bin/cat %f; infected FOUND }', 'p:3:1: scanner f: infected: "FOUND" is no /pattern/' ],
	[ 'a scanner with a wrong pattern', 'scanner f { command /bin/cat %f; infected /(/ }',
		'p:3:1: scanner f: infected: pattern /(/: missing closing parenthesis (at its octet 2)' ],
	[ 'a scanner with a code for both', 'scanner f { command /bin/cat %f; clean_codes 0 1 }', 'p:3:1: scanner f: infected_codes: 1 stands in clean_codes already' ],
	[ 'a scanner with a mark that is no name', 'scanner f { command /bin/cat %f; mark "a b" }',
		'p:3:1: scanner f: mark: "a b" is no name of a header field' ],
	[ 'a scanner that marks what loops are found by', 'scanner f { command /bin/cat %f; mark received }',
		'p:3:1: scanner f: mark: Received lines must stay, mail loops are found by them' ],
	[ 'a clamd that does so', 'clamd f { mark Received }',
		'p:3:1: clamd f: mark: Received lines must stay, mail loops are found by them' ],
	[ 'a scanner without effect', 'scanner f { command /bin/cat %f; verdict pass }', 'p:3:1: scanner f: it does nothing: give it mark, or another verdict than pass' ],
	[ 'exec without a command', 'exec f { }', 'p:3:1: exec f: it needs a command (command /usr/local/sbin/program %f)' ],
	[ 'a command without its path', 'exec f { command cat %f }', 'p:3:1: exec f: command: "cat" is no absolute path of a program (it begins with /)' ],
	[ 'a fact in the path of a command', 'exec f { command /bin/%s }', 'p:3:1: exec f: command: "/bin/%s": there is no %s here (%% is a percent sign)' ],
	[ 'a letter that stands for nothing', 'exec f { command /bin/cat --x=%x }',
		'p:3:1: exec f: command: "--x=%x": there is no %x (there are: f n h s r R a e l i t; %% is a percent sign)' ],
	[ 'a percent sign at the end', 'exec f { command /bin/cat 5% }', 'p:3:1: exec f: command: "5%": a single % stands at its end (%% is a percent sign)' ],
	[ 'all recipients inside a word', 'exec f { command /bin/cat --to=%R }', 'p:3:1: exec f: command: "--to=%R": %R must be a word of its own' ],
	[ 'an exit code that there is not', 'exec f { command /bin/cat; reject_codes 1 256 }',
		'p:3:1: exec f: reject_codes: "256" is no exit code (try 1, or 1-99; the highest is 255)' ],
	[ 'a range that goes backwards', 'exec f { command /bin/cat; reject_codes 9-1 }',
		'p:3:1: exec f: reject_codes: "9-1" is no exit code (try 1, or 1-99; the highest is 255)' ],
	[ 'an exit code with two meanings', 'exec f { command /bin/cat; reject_codes 1-9; tempfail_codes 5 }',
		'p:3:1: exec f: tempfail_codes: 5 stands in reject_codes already' ],
	[ 'a variable without a value', 'exec f { command /bin/cat; environment A }', 'p:3:1: exec f: environment: "A" is no variable (try NAME=VALUE)' ],
	[ 'a variable that is ours', 'exec f { command /bin/cat; environment SENDER=x }', 'p:3:1: exec f: environment: SENDER is set from the mail (try another name)' ],
	[ 'two new messages', 'exec f { command /bin/cat %n; pipe yes }', 'p:3:1: exec f: the new message comes from standard output or from %n, not from both' ],
	[ 'JSON for a refusal', 'exec f { command /bin/cat; output json; reject_codes 0 }',
		'p:3:1: exec f: reject_codes: with output json, exit code 0 means that the verdict is in what it prints' ],
	[ 'an option of the top level', "log { workers 4 }",
		'p:3:7: unknown option "workers" in log (it belongs at the top level: is a } missing above?)' ],
	[ 'an option as a block', "workers { }",
		'p:3:1: workers is an option, not a block: write workers auto' ],
	[ 'a block as an option', "log syslog", 'p:3:1: log is a block: write log { ... }' ],
	[ 'an option given twice', "hostname a.example\nhostname b.example",
		'p:4:1: hostname is given twice (first at p:3:1)' ],
	[ 'a block given twice', "log { }\nlog { }", 'p:4:1: log is given twice (first at p:3:1)' ],
	[ 'a name given twice', "backend inner { discard yes }",
		'p:3:9: backend "inner" is defined twice (first at p:2:1)' ],
	[ 'a name too many', "log x { }", 'p:3:5: log takes no name: write log { ... }' ],
	[ 'a name missing', "backend { discard yes }",
		'p:3:1: backend needs a name: write backend NAME { ... }' ],
	[ 'two names', "backend a b { discard yes }", 'p:3:11: backend takes one name: unexpected "b"' ],
	[ 'a name that is none', "backend a/b { discard yes }",
		'p:3:9: backend: "a/b" is not a name (letters, digits, - . and _, at most 64, the first a letter or digit)' ],
	[ 'a brace too many', "}", 'p:3:1: unexpected }: no block is open' ],
	[ 'a brace on the next line', "log\n{\n}",
		'p:3:1: log is a block: write log { ... }',
		q(p:4:1: unexpected { (it stands on the line of its block's name)) ],
	[ 'a brace that is missing', [ "listener front {\n\tlisten 127.0.0.1:10025\n\tbackend inner\n$back" ],
		'p:1:16: this { is never closed (is a } missing?)',
		'p:3:10: backend: there is no backend "inner" (nor any other: write backend NAME { ... })',
		'p:4:1: backend is an option, not a block: write backend NAME (or is a } missing above?)' ],

	# values
	[ 'a value missing', "workers", 'p:3:1: workers needs a value (try workers auto)' ],
	[ 'a value too many', "workers 4 5", 'p:3:11: workers takes one value: unexpected "5"' ],
	[ 'no number', "workers many", 'p:3:9: workers: "many" is neither a number nor auto' ],
	[ 'a number out of range', "workers 0", 'p:3:9: workers: 0 is out of range (1 to 256)' ],
	[ 'a number beyond all ranges', "workers 99999999999999999999",
		'p:3:9: workers: 99999999999999999999 is out of range (1 to 256)' ],
	[ 'no duration', "drain_timeout 30x",
		'p:3:15: drain_timeout: "30x" is not a duration (try 30s, 5m)' ],
	[ 'a duration without a unit', "drain_timeout 30",
		'p:3:15: drain_timeout: "30" has no unit (try 30s or 30m)' ],
	[ 'a duration out of range', "drain_timeout 90d",
		'p:3:15: drain_timeout: 90d is out of range (0 to 1d)' ],
	[ 'no size', "spool { inline 64Q }", 'p:3:16: inline: "64Q" is not a size (try 64K, 50M)' ],
	[ 'a size out of range', "spool { inline 1G }", 'p:3:16: inline: 1G is out of range (0 to 16M)' ],
	[ 'no host name', 'hostname "a b"',
		'p:3:1: hostname: "a b" is not a host name (try gate.example.org)' ],
	[ 'a word beside those that are possible', "log { level warning }",
		'p:3:13: level: "warning" is not one of: error warn info debug (did you mean "warn"?)' ],
	[ 'a word unlike those that are possible', "log { format xml }",
		'p:3:14: format: "xml" is not one of: text json' ],
	[ 'no log target', "log { to sylog }",
		'p:3:7: to: "sylog" is no log target (try syslog, journal, stderr or /var/log/postern/log)' ],
	[ 'a relative pid file', "pid_file postern.pid",
		'p:3:1: pid_file: "postern.pid" is not an absolute path' ],
	[ 'a relative spool', "spool { directory spool }",
		'p:3:9: directory: "spool" is not an absolute path' ],
	[ 'a pattern where none can be', "hostname /gate/",
		'p:3:10: hostname: a pattern is not possible here (a path that ends in a slash stands in quotes)' ],

	# spelling
	[ 'a quote that does not end', 'hostname "gate',
		'p:3:10: unterminated quote (the closing " is missing on this line)' ],
	[ 'a quote inside a word', 'hostname ga"te', 'p:3:10: a quote inside a word (put the whole word in quotes)' ],
	[ 'an apostrophe', "hostname 'gate'", 'p:3:10: an apostrophe does not quote (use "...")' ],
	[ 'a word that sticks to a quote', 'hostname "gate"x', 'p:3:16: a blank is missing behind the closing quote' ],
	[ 'a backslash with a blank behind it', "hostname \\ \n zzz",
		q(p:3:10: a backslash continues a line only at its very end),
		'p:4:2: unknown option "zzz" at the top level (postern -T default shows all there are)' ],
	[ 'a control character', "host\001name x", 'p:3:5: control character \x01' ],
	[ 'octets that are not UTF-8', "hostname \xff", 'p:3:10: not UTF-8 (put the word in quotes)' ],
	[ 'a NUL', "hostname x\0y", 'p:3:11: a NUL octet: this is not a text file' ],
	[ 'a line without an end', 'hostname ' . 'x' x 70000, 'p:3:1: the line is longer than 64 KiB' ],

	# addresses
	[ 'no port', [ "listener front { listen 127.0.0.1; backend inner }\n$back" ],
		'p:1:25: listen: "127.0.0.1" has no port (try 127.0.0.1:25)' ],
	[ 'a port that is none', [ "listener front { listen 127.0.0.1:70000; backend inner }\n$back" ],
		'p:1:25: listen: "127.0.0.1:70000": port "70000" is not a number from 0 to 65535' ],
	[ 'no host', [ "listener front { listen :25; backend inner }\n$back" ],
		'p:1:25: listen: ":25" is not an address (try 127.0.0.1:10025, [::1]:10025 or unix:/path)' ],
	[ 'IPv6 without brackets', [ "listener front { listen ::1:25; backend inner }\n$back" ],
		'p:1:25: listen: "::1:25": an IPv6 address stands in brackets (try [::1]:25)' ],
	[ 'a relative socket', [ "listener front { listen unix:sock; backend inner }\n$back" ],
		'p:1:25: listen: "unix:sock" is not an absolute path (try unix:/path)' ],
	[ 'an address twice', "listener other { listen 127.0.0.1:10025; backend inner }",
		'p:3:25: listen: 127.0.0.1:10025 is used by listener front already' ],
	[ 'an address twice, spelt differently', "listener other { listen [::1]:10026 [0::1]:10026 [0:0:0:0:0:0:0:1]:10027; backend inner }",
		'p:3:37: listen: [::1]:10026 is used by listener other already' ],
	[ 'networks that are none', [ "listener front {\n listen 127.0.0.1:10025; backend inner\n"
		. " clients 10.0.0.0/33 300.1.1.1 10.0.0.1/8 loopback\n}\n$back" ],
		'p:3:10: clients: "10.0.0.0/33" is not a network (try 127.0.0.0/8, ::1 or 192.0.2.7)',
		'p:3:22: clients: "300.1.1.1" is not a network (try 127.0.0.0/8, ::1 or 192.0.2.7)',
		'p:3:32: clients: "10.0.0.1/8" has host bits beyond the mask (try 10.0.0.0/8)',
		'p:3:43: clients: "loopback" is not a network (try 127.0.0.0/8, ::1 or 192.0.2.7)' ],
	[ 'a listener that is open to the world by an oversight',
		[ "listener front { listen 0.0.0.0:25; backend inner }\n$back" ],
		'p:1:25: listen: others than this machine can reach 0.0.0.0, so clients must say who may speak '
		. '(try clients 192.0.2.0/24, or clients any)' ],

	# what belongs together
	[ 'no listener', [ $back ],
		'p: there is no listener, so no mail can come in '
		. '(try listener front { listen 127.0.0.1:10025; backend inner })' ],
	[ 'nothing at all', [ '' ],
		'p: there is no listener, so no mail can come in '
		. '(try listener front { listen 127.0.0.1:10025; backend inner })' ],
	[ 'a listener without a back-end', [ "listener front { listen 127.0.0.1:10025 }\n" ],
		'p:1:1: listener front has no backend (try backend NAME)' ],
	[ 'a listener without an address', [ "listener front { backend inner }\n$back" ],
		'p:1:1: listener front has no address (try listen 127.0.0.1:10025)' ],
	[ 'a back-end that is not there', [ "listener front { listen 127.0.0.1:10025; backend iner }\n$back" ],
		'p:1:50: backend: there is no backend "iner" (did you mean "inner"?)' ],
	[ 'a back-end that leads nowhere', "backend other { }",
		'p:3:1: backend other says nowhere to go (try hosts 127.0.0.1:10026)' ],
	[ 'a back-end that leads to two places', "backend other { discard yes; maildir /m }",
		'p:3:1: backend other: only one of hosts, maildir and discard is possible' ],
	[ 'a relative maildir', "backend other { maildir Mail }",
		'p:3:17: maildir: "Mail" is not an absolute path' ],
	[ 'a host without a port', "backend other { hosts mail.example.org }",
		'p:3:23: hosts: "mail.example.org" has no port (try mail.example.org:25)' ],
	[ 'a host twice', "backend other { hosts 127.0.0.1:1 127.0.0.1:2 127.0.0.1:1 }",
		'p:3:47: hosts: 127.0.0.1:1 is named twice (name each once)' ],
	[ 'a host twice, spelt differently', "backend other { hosts [::1]:25 [0::1]:25 mail.example.org:25 Mail.Example.org:25 }",
		'p:3:32: hosts: [::1]:25 is named twice (name each once)',
		'p:3:62: hosts: Mail.Example.org:25 is named twice (name each once)' ],
	[ 'an inherited host', "backend other { hosts 127.0.0.1:1 fd:x }",
		'p:3:35: hosts: fd: is for listeners only (try 127.0.0.1:10026)' ],
	[ 'too many hosts', "backend other { hosts " . join(' ', map { "127.0.0.1:$_" } 1 .. 66) . ' }',
		'p:3:846: hosts: more than 64 (try a name with several addresses)' ],
	[ 'no way to balance', "backend other { hosts 127.0.0.1:1; balance roundrobin }",
		'p:3:44: balance: "roundrobin" is not one of: order round-robin least (did you mean "round-robin"?)' ],
	[ 'a budget that leaves nothing', [ "listener front { listen 127.0.0.1:1; backend inner; budget 5s }\n$back" ],
		'p:1:53: budget must be longer than final_reserve (10s where it is not set), or nothing is ever delivered' ],
	[ 'a mode that is none', [ "listener front { listen unix:/s; backend inner; socket_mode rw-rw---- }\n$back" ],
		'p:1:49: socket_mode: "rw-rw----" is not an octal mode (try 0660)' ],
	[ 'a mode that is not octal', [ "listener front { listen unix:/s; backend inner; socket_mode 0680 }\n$back" ],
		'p:1:49: socket_mode: "0680" is not an octal mode (try 0660)' ],
	[ 'a mode with more than rights', [ "listener front { listen unix:/s; backend inner; socket_mode 4660 }\n$back" ],
		'p:1:49: socket_mode: "4660" is not an octal mode (try 0660)' ],
	[ 'a mode for no socket', [ "listener front { listen 127.0.0.1:1; backend inner; socket_mode 0660 }\n$back" ],
		'p:1:53: socket_mode: listener front has no Unix socket (try listen unix:/run/postern/in)' ],
	[ 'a group for no socket', [ "listener front { listen 127.0.0.1:1; backend inner; socket_group mail }\n$back" ],
		'p:1:53: socket_group: listener front has no Unix socket (try listen unix:/run/postern/in)' ],
	[ 'no connections at all', 'max_connections 0', 'p:3:17: max_connections: 0 is out of range (1 to 1000000)' ],
	[ 'fewer than no connections', [ "listener front { listen 127.0.0.1:1; backend inner; max_per_client -1 }\n$back" ],
		'p:1:68: max_per_client: -1 is out of range (0 to 1000000)' ],
	[ 'nobody to trust', [ "listener front { listen 127.0.0.1:1; backend inner; trusted friends }\n$back" ],
		'p:1:61: trusted: "friends" is not a network (try 127.0.0.0/8, ::1 or 192.0.2.7)' ],
	[ 'a greeting that is held for ever', [ "listener front { listen 127.0.0.1:1; backend inner; early_talker 1h }\n$back" ],
		'p:1:66: early_talker: 1h is out of range (0 to 1m)' ],
	[ 'a rate in words', [ "listener front { listen 127.0.0.1:1; backend inner; min_rate slow }\n$back" ],
		'p:1:62: min_rate: "slow" is not a size (try 64K, 50M)' ],

	# TLS of a listener
	[ 'implicit TLS without a certificate', [ "listener front { listen 127.0.0.1:1; backend inner; implicit_tls yes }\n$back" ],
		'p:1:53: implicit_tls needs a certificate (try tls { certificate /etc/postern/tls/cert.pem; '
		. 'key /etc/postern/tls/key.pem })' ],
	[ 'STARTTLS without a certificate', [ "listener front { listen 127.0.0.1:1; backend inner; starttls require }\n$back" ],
		'p:1:53: starttls needs a certificate (try tls { certificate /etc/postern/tls/cert.pem; '
		. 'key /etc/postern/tls/key.pem })' ],
	[ 'no STARTTLS that is', [ "listener front { listen 127.0.0.1:1; backend inner; starttls yes; tls { certificate /a } }\n$back" ],
		'p:1:62: starttls: "yes" is not one of: no offer require' ],
	[ 'TLS without a certificate', [ "listener front { listen 127.0.0.1:1; backend inner; tls { verify ask } }\n$back" ],
		'p:1:53: tls: there is no certificate (try certificate /etc/postern/tls/cert.pem)' ],
	[ 'a certificate that lacks its key',
		[ "listener front { listen 127.0.0.1:1; backend inner; tls { certificate /a /b; key /c } }\n$back" ],
		'p:1:78: key: there are 1 for 2 certificates; each certificate needs its own, in the same order' ],
	[ 'relative paths of TLS',
		[ "listener front { listen 127.0.0.1:1; backend inner; tls { certificate a; key b; client_ca c; verify ask } }\n$back" ],
		'p:1:59: certificate: "a" is not an absolute path', 'p:1:74: key: "b" is not an absolute path',
		'p:1:81: client_ca: "c" is not an absolute path' ],
	[ 'clients that nobody can verify',
		[ "listener front { listen 127.0.0.1:1; backend inner; tls { certificate /a; verify require } }\n$back" ],
		'p:1:75: verify require needs client_ca, the authorities whose certificates are let in' ],
	[ 'authorities for nobody',
		[ "listener front { listen 127.0.0.1:1; backend inner; tls { certificate /a; client_ca /c } }\n$back" ],
		'p:1:75: client_ca has no effect with verify none (try verify ask, or verify require)' ],
	[ 'a key without a certificate',
		[ "listener front { listen 127.0.0.1:1; backend inner; tls { key /c } }\n$back" ],
		'p:1:53: tls: there is no certificate (try certificate /etc/postern/tls/cert.pem)' ],
	[ 'no version of TLS',
		[ "listener front { listen 127.0.0.1:1; backend inner; tls { certificate /a; min_version 1.4 } }\n$back" ],
		'p:1:87: min_version: "1.4" is not one of: 1.0 1.1 1.2 1.3 (did you mean "1.0"?)' ],
	# TLS and AUTH towards a back-end
	[ 'a way of TLS that is none', back('tls opportunist'),
		'p:3:44: tls: "opportunist" is not one of: none opportunistic required verify '
		. '(did you mean "opportunistic"?)' ],
	[ 'implicit TLS without TLS', back('implicit_tls yes'),
		'p:3:40: implicit_tls: the connection is in clear with tls none (try tls required, or tls verify)' ],
	(map { [ "$_->[0] without TLS", back("$_->[0] $_->[1]"),
		"p:3:40: $_->[0] has no effect with tls none (try tls verify)" ] }
		[ tls_ca => '/ca.pem' ], [ tls_name => 'mx.example' ], [ tls_pin => 'ab' x 32 ],
		[ tls_certificate => '/cert.pem' ], [ tls_key => '/key.pem' ], [ tls_min_version => '1.3' ]),
	[ 'authorities that nobody asks', back('tls required; tls_ca /ca.pem'),
		'p:3:54: tls_ca: certificates are looked at only with tls verify' ],
	[ 'authorities that nobody asks, opportunistic', back('tls opportunistic; tls_ca /ca.pem'),
		'p:3:59: tls_ca: certificates are looked at only with tls verify' ],
	[ 'a pin that does not matter', back('tls opportunistic; tls_pin ' . 'ab' x 32),
		'p:3:59: tls_pin: opportunistic takes any certificate, and none (try tls required)' ],
	[ 'a key without a certificate', back('tls required; tls_key /key.pem'),
		'p:3:54: tls_key needs tls_certificate' ],
	[ 'relative certificates', back('tls verify; tls_ca ca.pem; tls_certificate cert.pem; tls_key key.pem'),
		'p:3:52: tls_ca: "ca.pem" is not an absolute path',
		'p:3:67: tls_certificate: "cert.pem" is not an absolute path',
		'p:3:93: tls_key: "key.pem" is not an absolute path' ],
	(map { [ "a pin that is none: $_", back('tls verify; tls_pin ' . 'ab' x 32 . " $_"),
		"p:3:125: tls_pin: \"$_\" is not the SHA-256 of a public key (64 hexadecimal digits, or sha256// and 44 "
		. 'characters of base64)' ] } 'abcd', 'ab' x 33, 'sha256//abcd', 'sha1//' . 'A' x 43 . '=', 'g' x 64,
		'A' x 42 . '==', ('ab:' x 32)),
	[ 'no pin', back('tls verify; tls_pin'), 'p:3:52: tls_pin needs a value (try tls_pin WORD)' ],
	[ 'a version that is none', back('tls verify; tls_min_version ssl3'),
		'p:3:68: tls_min_version: "ssl3" is not one of: 1.0 1.1 1.2 1.3' ],
	[ 'a socket without a name for its certificate', "backend other { hosts 127.0.0.1:1 unix:/s; tls verify }",
		'p:3:35: hosts: with tls verify a Unix socket needs tls_name, the name in the certificate' ],
	[ 'a user without a password', back('tls required; auth_user u'), 'p:3:54: auth_user needs auth_password_file' ],
	[ 'a password without a user', back('tls required; auth_password_file /p'),
		'p:3:54: auth_password_file needs auth_user' ],
	[ 'a password that would go in clear', back('auth_user u; auth_password_file /p'),
		'p:3:40: auth_user: with tls none the password would go in clear '
		. '(try tls required, or auth_plaintext yes)' ],
	[ 'a user without a name', back('tls required; auth_user ""; auth_password_file /p'),
		'p:3:54: auth_user: 1 to 500 octets are possible' ],
	[ 'a password in a relative file', back('tls required; auth_user u; auth_password_file p'),
		'p:3:67: auth_password_file: "p" is neither an absolute path nor credential:NAME' ],

	# health
	[ 'health for everybody', "health { listen 0.0.0.0:10080 }",
		'p:3:17: listen: others than this machine can reach 0.0.0.0, so clients must say who may speak '
		. '(try clients 192.0.2.0/24, or clients any)' ],
	[ 'health where a listener stands', "health { listen 127.0.0.1:10080 127.0.0.1:10025 }",
		'p:3:33: listen: 127.0.0.1:10025 is used by listener front already' ],
	[ 'health twice in one place', "health { listen unix:/run/h unix:/run/h }",
		'p:3:29: listen: unix:/run/h is used by health already' ],

	# filters and rules
	[ 'a filter that is not there', "dummy slow { }\ndefault_chain slwo",
		'p:4:15: default_chain: there is no filter "slwo" (did you mean "slow"?)' ],
	[ 'a filter twice in a chain', "dummy slow { }\ndefault_chain slow slow",
		'p:4:20: default_chain: the filter "slow" stands in it twice' ],
	[ 'a filter beside none', "dummy slow { }\ndefault_chain slow none",
		'p:4:20: default_chain: "none" stands alone or not at all' ],
	[ 'a filter called none', "dummy none { }",
		'p:3:1: a filter cannot be called "none": it stands for no filter in a chain' ],
	[ 'a failure that would be an accept', "dummy slow { on_failure accept }",
		'p:3:25: on_failure: "accept" is not one of: tempfail reject pass disconnect quarantine' ],
	[ 'a filter without time', "dummy slow { timeout 0s }", 'p:3:22: timeout: 0s is out of range (1ms to 1h)' ],
	[ 'no place for anybody', "dummy slow { max_instances 0 }", 'p:3:28: max_instances: 0 is out of range (1 to 100000)' ],
	[ 'a wait for what is without limit', "dummy slow { max_wait 5s }",
		'p:3:14: max_wait says how long to wait for one of max_instances, and there is no max_instances here' ],
	[ 'an edit that is none', "header h { add A 1; may headers }", 'p:3:25: may: there is no edit "headers" (did you mean "header"?)' ],
	[ 'an edit that looks like none', "header h { add A 1; may x }",
		'p:3:25: may: there is no edit "x" (there are: none header add_header change_header delete_header sender recipients '
			. 'add_recipient remove_recipient body message)' ],
	[ 'an edit that its kind never makes', "header h { add A 1; may header body }",
		'p:3:32: may: a filter of kind header never asks for "body"' ],
	[ 'an edit for who only looks', "dummy d { may sender }",
		'p:3:15: may: a filter of kind dummy never asks for "sender", nor for any other edit' ],
	[ 'an edit beside none', "header h { add A 1; may none header }", 'p:3:25: may: "none" stands alone or not at all' ],
	[ 'a text that no reply can have', "dummy d { reject_text \"a\xc3\xa4\" }",
		'p:3:11: reject_text has characters other than printable ASCII' ],
	[ 'a text as long as a letter', 'dummy d { tempfail_text ' . 'x' x 401 . ' }',
		'p:3:11: tempfail_text is longer than 400 octets' ],
	[ 'a failure that is never looked at again', "dummy d { retry_after 0s }", 'p:3:23: retry_after: 0s is out of range (1ms to 1d)' ],
	[ 'an accept on reject', "dummy d { on_reject accept }",
		'p:3:21: on_reject: "accept" is not one of: reject discard quarantine pass' ],
	[ 'a rule without a chain', "rule { recipient \@a.example }",
		'p:3:1: a rule needs a chain ("chain none" for no filter)' ],
	[ 'a rule of an unknown listener', "rule { listener fornt; chain none }",
		'p:3:17: listener: there is no listener "fornt" (did you mean "front"?)' ],
	[ 'a domain without its @', "rule { recipient partner.example; chain none }",
		'p:3:18: recipient: "partner.example" is not an address (try @partner.example for all of a domain)' ],
	[ 'an address in brackets', "rule { sender <ann\@a.example>; chain none }",
		'p:3:15: sender: an address stands without < and >' ],
	[ 'an address without a domain', "rule { sender ann@; chain none }",
		'p:3:15: sender: the domain is missing in "ann@" (try ann@example.org)' ],
	[ 'a list in no file', "rule { sender file:no/list; chain none }",
		'p:3:15: sender: no/list: No such file or directory' ],
	[ 'a list in a folder', "rule { sender file:.; chain none }",
		'p:3:15: sender: .: is a directory (try a file in it)' ],
	[ 'a list without its path', "rule { sender file:; chain none }",
		'p:3:15: sender: file: needs a path (try file:/etc/postern/list)' ],
	[ 'a table that is not there', "rule { sender lmdb:no/list; chain none }",
		'p:3:15: sender: no/list: No such file or directory' ],
	[ 'a table that is a text', "rule { sender lmdb:list; chain none }",
		'p:3:15: sender: list: is no table of LMDB' ],
	[ 'a table without its path', "rule { sender lmdb:; chain none }",
		'p:3:15: sender: lmdb: needs a path (try lmdb:/etc/postern/list.lmdb)' ],
	[ 'a class of domains that is not set', "rule { recipient local_domains; chain none }",
		'p:3:18: recipient: local_domains is not set (try local_domains example.org, outside of all blocks)' ],
	[ 'a target of address that nothing says is local', "address a { redirect ann\@example.org }\n",
		'p:3:22: external: local_domains is not set (try local_domains example.org, outside of all blocks)',
		'p:3:22: redirect: ann@example.org is not in local_domains (external yes allows it)' ],
	[ 'an address that does nothing', "address a { }\n",
		'p:3:1: address a: it does nothing: give it add_recipient, redirect, remove, set_sender or add_header' ],
	[ 'settings for rspamd that are cut off', "rspamd r { settings \"{\" }\n", 'p:3:1: rspamd r: settings: it is no JSON object (try "{}")' ],
	[ 'a class by another name', "local_domains a.example\nrule { recipient local-domain; chain none }",
		'p:4:18: recipient: "local-domain" is not an address (did you mean "local_domains"?)' ],
	[ 'addresses for domains', "local_domains ann\@a.example <a.example> a.example",
		'p:3:15: local_domains: "ann@a.example" is not a domain (try a.example)',
		'p:3:29: local_domains: a domain stands without < and >' ],
	[ 'no domain to complete addresses with', "unqualified_domain a..example",
		'p:3:1: unqualified_domain: "a..example" is no domain (try example.org)' ],
	[ 'a time that is none', "rule { time \"8-17\"; chain none }", 'p:3:13: time: "8-17" is no time (try "* 8-17 * * mon-fri", minute hour day month weekday in quotes, or @always or @never)' ],
	[ 'a network that is none', "rule { client mail.a.example; chain none }", 'p:3:15: client: "mail.a.example" is not a network (try 127.0.0.0/8, ::1 or 192.0.2.7)' ],
	[ 'wrong words in a list', "rule { recipient file:list a\@b.example; chain none }",
		'list:2:1: recipient: "partner.example" is not an address (try @partner.example for all of a domain)',
		'list:3:1: recipient: "*@a.example": a star stands for nothing here (try @a.example)',
		'list:4:1: recipient: "c@a.example # later" is not an address: there is white space in it '
		. '(in a file, each word and each comment has a line of its own)' ],
	[ 'a slip in a condition', "dummy d { only_sender a.example }",
		'p:3:23: only_sender: "a.example" is not an address (try @a.example for all of a domain)' ],
	[ 'a condition without its semicolon', "dummy d { only_recipient a\@a.example on_failure pass }",
		'p:3:38: only_recipient: "on_failure" is not an address: a semicolon or the end of the line is missing in front of it',
		'p:3:49: only_recipient: "pass" is not an address (try @pass for all of a domain)' ],
	[ 'an address for a name', "dummy d { only_helo \@a.example ann\@a.example }",
		'p:3:21: only_helo: "@a.example" is not a name (try a.example)',
		'p:3:32: only_helo: "ann@a.example" is not a name (try a.example)' ],
	[ 'a name for a network', "dummy d { only_client mail.a.example }",
		'p:3:23: only_client: "mail.a.example" is not a network (try 127.0.0.0/8, ::1 or 192.0.2.7)' ],
	[ 'a wrong pattern in a condition', "dummy d { skip_subject /(/ }",
		'p:3:24: skip_subject: pattern /(/: missing closing parenthesis (at its octet 2)' ],
	[ 'a header without its value', "dummy d { only_header X-Spam }",
		'p:3:23: only_header: what stands in X-Spam is missing (try X-Spam /^/ for anything)' ],
	[ 'a header with its colon', "dummy d { only_header X-Spam: yes }",
		'p:3:23: only_header: "X-Spam:" is no field name (try X-Spam-Flag /^yes/)' ],
	[ 'a time without its quotes', "dummy d { only_time * 8-17 * * 1-5 }",
		(map { my ($column, $word) = @$_; qq{p:3:$column: only_time: "$word" is no time (try "* 8-17 * * mon-fri", }
			. 'minute hour day month weekday in quotes, or @always or @never)' }
			[ 21, '*' ], [ 23, '8-17' ], [ 28, '*' ], [ 30, '*' ], [ 32, '1-5' ]) ],
	[ 'an hour that no day has', 'dummy d { only_time "* 8-24 * * *" }',
		'p:3:21: only_time: "8-24" is no hour (try *, 0-23, a list with commas, or */2)' ],
	[ 'a zone that there is not', 'dummy d { only_time "* 8-17 * * * Europe/Berln" }', -d '/usr/share/zoneinfo' ?
		'p:3:21: only_time: "Europe/Berln" is no zone (try UTC, +0100, or a name below /usr/share/zoneinfo as it is written there, such as Europe/Berlin)' :
		'p:3:21: only_time: "Europe/Berln" is no zone that is known here: there is no /usr/share/zoneinfo (install tzdata, or try UTC or +0100)' ],
	[ 'a fingerprint that is none', "dummy d { only_tls ab:cd }",
		'p:3:20: only_tls: "ab:cd" is neither yes nor no nor the SHA-256 of a certificate, 64 hexadecimal digits '
		. '(openssl x509 -noout -fingerprint -sha256 -in FILE)' ],
	[ 'a size of nothing', "dummy d { only_smaller 0 }", 'p:3:24: only_smaller: 0 is out of range (1 to 1024T)' ],
	[ 'a wrong pattern in a list', "rule { recipient a\@b.example file:pattern; chain none }",
		'pattern:2:1: recipient: pattern /(/: missing closing parenthesis (at its octet 2)' ],
	[ 'a pattern that is none', "rule { recipient /(/; chain none }",
		'p:3:18: recipient: pattern /(/: missing closing parenthesis (at its octet 2)' ],
	[ 'a pattern without its end', "rule { recipient /\@a(b; chain none }",
		'p:3:18: unterminated pattern (it ends with a slash, one inside is written \/; put a path in quotes)' ],
	[ 'an empty pattern', "rule { recipient //; chain none }",
		'p:3:18: empty pattern (it would match everything: write /^/)' ],

	# include
	[ 'an include that is not there', "include nothere.conf",
		'p:3:9: include: nothere.conf: No such file or directory' ],
	[ 'an include of a folder', "include .",
		'p:3:9: include: .: is a directory (try its files: DIRECTORY/*.conf)' ],
	[ 'an include of itself', "include p", 'p:3:9: include: p includes itself (a loop)' ],
	[ 'an include of nothing', "include", 'p:3:1: include needs a path (try include conf.d/*.conf)' ],
	[ 'an include of two', "include a b", 'p:3:11: include takes one path: unexpected "b"' ],
);

for my $case (@broken) {
	my ($name, $conf, @messages) = @$case;
	my ($status, $out) = check(ref $conf ? @$conf : "$good$conf\n");

	is($out, join('', map { "$_\n" } @messages), "the message: $name") or diag $conf;
	is($status, 78, "the exit status: $name");
}
cmp_ok(scalar @broken, '>=', 45, 'there are enough of them');

# All of them in one run, in the order of the file.
{
	my @values = map { $_->[1] } grep { !ref $_->[1] && @$_ == 3 && $_->[1] !~ /[\n{}"\\]|[^ -~]|x{99}|include/ } @broken;
	my %seen;
	@values = grep { !$seen{ (split)[0] }++ } @values;
	my ($status, $out) = check($good . join '', map { "$_\n" } @values);
	my @lines = $out =~ /^p:(\d+):/mg;

	cmp_ok(scalar @values, '>=', 5, 'several broken lines');
	is("@lines", join(' ', 3 .. @values + 2), 'every error of a file is told in one run, in its order');
	is($status, 78, 'and the exit status is one');
}
{
	mkdir "$dir/conf.d";
	write_file("$dir/conf.d/a.conf", "workers many\n");
	write_file("$dir/conf.d/b.conf", "\nlog {\n\tlevel loud\n}\n");
	my ($status, $out) = check("${good}include conf.d/*.conf\nhostname\n");

	is($out, <<'END', 'errors of included files carry their own names');
conf.d/a.conf:1:9: workers: "many" is neither a number nor auto
conf.d/b.conf:3:8: level: "loud" is not one of: error warn info debug
p:4:1: hostname needs a value (try hostname WORD)
END
	is($status, 78, 'and the exit status');
}
{
	my ($status, $out) = check($good . "zzz\n" x 1000);

	is(scalar(() = $out =~ /^/mg), 201, 'a file that is no configuration does not flood the terminal');
	like($out, qr/^and 800 more errors$/m, 'but says how many there were');
}

# Warnings leave it good.
{
	my ($status, $out) = read_text(
		"listener front { listen 127.0.0.1:10025; backend inner; received no }\n$back"
		. "dummy a { timeout 2m }\ndefault_chain a\nrule { sender <> postmaster .a.example \@b.example; chain a }\n");

	is($out, <<'END', 'what is dangerous but possible is a warning');
p:1:57: warning: received no: only the Received lines of other hops (max_hops 50) stop a mail loop
p:4:1: warning: default_chain: the timeouts add up to 120s, the budget of listener front leaves 80s
p:5:52: warning: chain: the timeouts add up to 120s, the budget of listener front leaves 80s
END
	is($status, 0, 'and the exit status is good');
	($status, $out) = read_text("${good}dummy a { timeout 1m }\ndummy b { timeout 1m }\ndefault_chain a b\n");
	is($out, '', 'filters that run side by side do not add up');
	($status, $out) = read_text("${good}header a { add A 1; timeout 1m; max_instances 1 }\nheader b { add A 1; timeout 1m; max_instances 1 }\n"
		. "default_chain a b\n");
	like($out, qr/^p:5:1: warning: default_chain: the timeouts add up to 120s/, 'but those that may wait for an instance do');
	($status, $out) = read_text("${good}clamd a { }\nscanner b { command /bin/true %f }\ndefault_chain a b\n");
	is($out, '', 'scanners without a mark only look, and do not');
	($status, $out) = read_text("${good}clamd a { mark X-A }\nscanner b { command /bin/true %f; mark X-B }\ndefault_chain a b\n");
	like($out, qr/^p:5:1: warning: default_chain: the timeouts add up to 120s/, 'those that mark one after the other do');
	for my $chain ('exec a { command /bin/true %f } exec b { command /bin/true %f }', 'clamd a { } exec b { command /bin/true %f }',
		'exec a { command /bin/true } exec b { command /bin/true; shadow yes }') {
		($status, $out) = read_text("${good}@{[ $chain =~ s/\} (?=exec)/}\n/r ]}\ndefault_chain a b\n");
		like($out, qr/^p:5:1: warning: default_chain: the timeouts add up to 120s/, "a program waits for those before it: $chain");
	}
	($status, $out) = read_text("${good}exec a { command /bin/true %f }\nclamd b { }\ndefault_chain a b\n");
	is($out, '', 'but who only looks does not wait for a program that edits nothing');
	($status, $out) = read_text("${good}dummy d { failures 0; retry_after 1m }\nalways a { failures 3 }\ndefault_chain d a\n");
	is($out, <<'END', 'a breaker that is none is a warning');
p:3:23: warning: retry_after has no effect with failures 0
p:4:12: warning: failures has no effect: a filter of kind always asks no program and no service, and so is asked for every message
END
}

# Good ones.
my $rich = <<'END';
# a comment; hostname "a#b" is not one
hostname gate.example.org; workers 3
drain_timeout 1500ms
log { to /var/log/postern.log; format json; level debug; facility local3 }
spool { directory "/var/spool/post ern"; inline 100K; min_free 0 }
listener front {
	listen 127.0.0.1:10025 [::1]:10025 \
		unix:/run/postern/in localhost:0
	backend inner; clients 127.0.0.0/8 ::1 192.0.2.7
	greeting "say \"hello\" \\ # all"; max_message 0
}
listener open { listen 0.0.0.0:2525; clients any; backend kept }
backend inner { hosts [2001:db8::1]:25; idle_timeout 5s }
backend kept { maildir /var/mail/all/ }
dummy slow { wait 1s; timeout 5s; on_failure pass }
dummy other { helper yes }
rule { listener front open; recipient /@partner\.example$/ a/b@c.example /x\/y/; chain slow other }
rule { sender <>; chain none }
default_chain slow
END

sub without_places { return $_[0] =~ s/^(.*\S)\s+# \S+:\d+$/$1/mgr }

for my $case ([ 'two lines', $good ], [ 'one with everything', $rich ], [ 'CRLF line ends', $rich =~ s/\n/\r\n/gr ],
	[ 'a byte order mark', "\xef\xbb\xbf$good" ]) {
	my ($name, $conf) = @$case;
	my ($status, $out) = read_text($conf);

	is($out, '', "$name: nothing is wrong");
	is($status, 0, "$name: and the exit status is good");
	my ($status1, $first) = check($conf, '-T');
	my ($status2, $second) = check($first, '-T');
	is("$status1 $status2", '0 0', "$name: -T exits with 0, and its output is a configuration");
	is(without_places($second), without_places($first), "$name: which means the very same");
	like($first, qr/^\tlisten +127\.0\.0\.1:10025.*# p:\d+$/m, "$name: -T tells where a value was written");
	like($first, qr/^#?pid_file .*# not set$/m, "$name: and what was not");
}
{
	my ($status, $out) = postern('-T', 'default');

	is($status, 0, '-T default prints the example file');
	($status, $out) = read_text($out);
	is("$status$out", '0', 'which is a good configuration as it is');
	(my $status2, $out) = postern('-T', 'manual');
	is($status2, 0, '-T manual prints the chapter of the manual');
	like($out, qr/^\.It Ic max_hops /m, 'with every option');
}

# Files that cannot be read.
{
	my ($status, $out) = postern('-t', '-c', 'nothere');

	is($out, "nothere: No such file or directory (postern -T default prints one to begin with)\n", 'a file that is not there is told');
	is($status, 78, 'with status 78');
	($status, $out) = postern('-t', '-c', 'conf.d');
	is($out, "conf.d: is a directory (try a file in it)\n", 'a folder in place of a file is told');
	is($status, 78, 'with status 78');
	($status, $out) = postern('-f', '-c', 'nothere');
	is($out, "nothere: No such file or directory (postern -T default prints one to begin with)\n", 'not only by -t');
	is($status, 78, 'and nothing is started');
}
SKIP: {
	skip 'needs to become another user', 1 unless is_root();
	write_file("$dir/secret", $good, 0600);
	chmod 0755, $dir;
	my @as = ('setpriv', '--reuid=65534', '--regid=65534', '--clear-groups');
	my $path = File::Spec->rel2abs($program);
	my $out = `cd '$dir' && cp '$path' postern && @as ./postern -t -c secret 2>&1`;
	is($out, "secret: Permission denied (the user that Postern becomes must be able to read it)\n", 'a file that may not be read is told');
}

# The command line.
for my $case ([ '-x' ], [ '-c' ], [ 'word' ], [ '-t', '-c', 'p', 'word' ], [ '-T', 'defaults' ]) {
	my ($status, $out) = postern(@$case);

	is($status, 64, "@$case: wrong usage is status 64");
	like($out, qr/^(?:usage: postern |postern: -T takes)/m, "@$case: and the usage is told");
}
{
	my ($status, $out) = postern('-V');
	like($out, qr/\Apostern \d+\.\d+/, '-V tells the version');
	($status, $out) = postern('-h');
	like($out, qr/\Ausage: postern /, '-h tells the usage');
	is($status, 0, 'and that is no mistake');
}

done_testing;
