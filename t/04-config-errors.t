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

# name, configuration (behind two good lines, unless it says of itself that it is whole), messages
my @broken = (
	# words and blocks
	[ 'a block nobody knows', "lisener x { }",
		'p:3:1: unknown block "lisener" at the top level (did you mean "listener"?)' ],
	[ 'an option nobody knows', "wrokers 4",
		'p:3:1: unknown option "wrokers" at the top level (did you mean "workers"?)' ],
	[ 'an option like nothing else', "zzz 4", 'p:3:1: unknown option "zzz" at the top level' ],
	[ 'an option of another block', "max_hops 4",
		'p:3:1: unknown option "max_hops" at the top level (it is known in listener)' ],
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
		'p:3:10: backend: there is no backend "inner"',
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
		'p:3:7: to: "sylog" is no log target (try syslog, stderr or /var/log/postern/log)' ],
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
	[ 'a backslash with a blank behind it', "hostname \\ \n gate",
		q(p:3:10: a backslash continues a line only at its very end),
		'p:4:2: unknown option "gate" at the top level' ],
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
	[ 'an inherited socket', [ "listener front { listen fd:x; backend inner }\n$back" ],
		'p:1:25: listen: inherited descriptors are not possible in this version (try 127.0.0.1:10025)' ],
	[ 'an address twice', "listener other { listen 127.0.0.1:10025; backend inner }",
		'p:3:25: listen: 127.0.0.1:10025 is used by listener front already' ],
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
	[ 'two hosts, which come later', "backend other { hosts 127.0.0.1:1 127.0.0.1:2 }",
		'p:3:35: hosts: one host is possible in this version; name one and remove the others' ],
	[ 'a budget that leaves nothing', [ "listener front { listen 127.0.0.1:1; backend inner; budget 5s }\n$back" ],
		'p:1:53: budget must be longer than final_reserve (10s where it is not set), or nothing is ever delivered' ],

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
		'p:3:25: on_failure: "accept" is not one of: tempfail reject pass disconnect' ],
	[ 'a filter without time', "dummy slow { timeout 0s }", 'p:3:22: timeout: 0s is out of range (1ms to 1h)' ],
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
	[ 'a list in a file, which comes later', "rule { sender file:/etc/list; chain none }",
		'p:3:15: sender: lists in files are not possible in this version' ],
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
	my ($status, $out) = check(
		"listener front { listen 127.0.0.1:10025; backend inner; received no }\n$back"
		. "dummy a { timeout 2m }\ndefault_chain a\nrule { sender <> postmaster .a.example \@b.example; chain a }\n");

	is($out, <<'END', 'what is dangerous but possible is a warning');
p:1:57: warning: received no: only the Received lines of other hops (max_hops 50) stop a mail loop
p:4:1: warning: default_chain: the timeouts add up to 120s, the budget of listener front leaves 80s
p:5:52: warning: chain: the timeouts add up to 120s, the budget of listener front leaves 80s
p: the configuration is good
END
	is($status, 0, 'and the exit status is good');
	($status, $out) = check("${good}dummy a { timeout 1m }\ndummy b { timeout 1m }\ndefault_chain a b\n");
	is($out, "p: the configuration is good\n", 'filters that run side by side do not add up');
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
	my ($status, $out) = check($conf);

	is($out, "p: the configuration is good\n", "$name: -t says that it is good");
	is($status, 0, "$name: and exits with 0");
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
	($status, $out) = check($out);
	is($out, "p: the configuration is good\n", 'which is a good configuration as it is');
	(my $status2, $out) = postern('-T', 'manual');
	is($status2, 0, '-T manual prints the chapter of the manual');
	like($out, qr/^\.It Ic max_hops /m, 'with every option');
}

# Files that cannot be read.
{
	my ($status, $out) = postern('-t', '-c', 'nothere');

	is($out, "nothere: No such file or directory\n", 'a file that is not there is told');
	is($status, 78, 'with status 78');
	($status, $out) = postern('-t', '-c', 'conf.d');
	is($out, "conf.d: is a directory\n", 'a folder in place of a file is told');
	is($status, 78, 'with status 78');
	($status, $out) = postern('-f', '-c', 'nothere');
	is($out, "nothere: No such file or directory\n", 'not only by -t');
	is($status, 78, 'and nothing is started');
}
SKIP: {
	skip 'needs to become another user', 1 unless is_root();
	write_file("$dir/secret", $good, 0600);
	chmod 0755, $dir;
	my @as = ('setpriv', '--reuid=65534', '--regid=65534', '--clear-groups');
	my $path = File::Spec->rel2abs($program);
	my $out = `cd '$dir' && cp '$path' postern && @as ./postern -t -c secret 2>&1`;
	is($out, "secret: Permission denied\n", 'a file that may not be read is told');
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
