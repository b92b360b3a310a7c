#!/usr/bin/perl
# Mistakes that a new administrator makes, as somebody who knows other programs: each message says what is wrong,
# where, and what would be right. t/04-config-errors.t has those of the grammar, t/05-check.t those beyond the text.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use File::Spec;
use IO::Socket::INET;
use TestUtil;

my $dir = temp_dir();
my $program = File::Spec->rel2abs($ENV{POSTERN} // builddir() . '/postern');
my $good = "listener front { listen 127.0.0.1:10025; backend inner }\n"
    . "backend inner { hosts 127.0.0.1:10026 }\n";

# Runs it in our folder; the exit status and all it said. What blocks there are is not the subject here.
sub postern
{
	my ($args) = @_;
	my $out = `cd '$dir' && '$program' $args 2>&1 </dev/null`;

	return ($? >> 8, $out =~ s/\(there are: log spool quarantine listener [^)]*\)/(there are: BLOCKS)/r);
}

# name, what stands behind two good lines, messages
my @mistakes = (
	# habits from other programs
	[ 'an equals sign', 'hostname = gate.example.org',
		'p:3:10: hostname: no = is written here (try hostname gate.example.org)' ],
	[ 'an equals sign without blanks', 'hostname=gate.example.org',
		'p:3:1: hostname: no = is written here (try hostname gate.example.org)' ],
	[ 'a colon', 'hostname: gate.example.org',
		'p:3:1: hostname: no : is written here (try hostname gate.example.org)' ],
	[ 'a colon without a value', 'workers:',
		'p:3:1: workers: no : is written here (try workers auto)' ],
	[ 'a comma behind a value', 'workers 4,',
		'p:3:9: workers: "4,": blanks stand between values, not commas (try 4)' ],
	[ 'a line of main.cf', 'mynetworks = 127.0.0.0/8',
		'p:3:1: unknown option "mynetworks" at the top level (here it is called clients, in listener)' ],
	[ 'another line of main.cf', 'relayhost = [127.0.0.1]:10026',
		'p:3:1: unknown option "relayhost" at the top level (here it is called hosts, in backend)' ],
	[ 'a line of master.cf', 'smtp inet n - n - - smtpd',
		'p:3:1: unknown option "smtp" at the top level (postern -T default shows all there are)' ],
	[ 'the second line of a service in master.cf', '  -o content_filter=',
		'p:3:3: unknown option "-o" at the top level (postern -T default shows all there are)' ],
	[ 'a line of sendmail.mc', "define(`confDOMAIN_NAME', `gate')dnl",
		"p:3:1: unknown option \"define(`confDOMAIN_NAME',\" at the top level (postern -T default shows all there are)" ],
	[ 'a line of sendmail.cf', 'O MaxMessageSize=1000',
		'p:3:1: unknown option "O" at the top level (postern -T default shows all there are)' ],
	[ 'a section of an ini file', '[listener front]',
		'p:3:1: unknown option "[listener" at the top level (did you mean "listener"?)' ],
	[ 'a section of Apache', '<listener front>',
		'p:3:1: unknown option "<listener" at the top level (did you mean "listener"?)' ],
	[ 'a server of nginx', 'server { listen 25; }',
		'p:3:1: unknown block "server" at the top level (there are: BLOCKS)' ],
	[ 'JSON', '{ "workers": 4 }',
		"p:3:1: unexpected { (it stands on the line of its block's name)",
		'p:3:1: this { is never closed (is a } missing?)',
		'p:3:12: a blank is missing behind the closing quote' ],
	[ 'YAML', '- workers: 4',
		'p:3:1: unknown option "-" at the top level (postern -T default shows all there are)' ],
	[ 'a variable of the shell', 'workers $CPUS',
		'p:3:9: workers: "$CPUS" is neither a number nor auto' ],
	[ 'a command of the shell', 'hostname $(hostname)',
		'p:3:1: hostname: "$(hostname)" is not a host name (try gate.example.org)' ],
	[ 'a word of another program in a listener', 'listener other { port 25; backend inner }',
		'p:3:1: listener other has no address (try listen 127.0.0.1:10025)',
		'p:3:18: unknown option "port" in listener (here it is called listen)' ],
	[ 'a word of another program in a back-end', 'backend other { relayhost 127.0.0.1:25 }',
		'p:3:1: backend other says nowhere to go (try hosts 127.0.0.1:10026)',
		'p:3:17: unknown option "relayhost" in backend (here it is called hosts)' ],
	[ 'rcpt for recipient', 'rule { rcpt ann@example.org; chain none }',
		'p:3:8: unknown option "rcpt" in rule (here it is called recipient)' ],
	[ 'to for recipient', 'rule { to ann@example.org; chain none }',
		'p:3:8: unknown option "to" in rule (here it is called recipient)' ],
	[ 'filter for chain', 'rule { filter slow }',
		'p:3:1: a rule needs a chain ("chain none" for no filter)',
		'p:3:8: unknown option "filter" in rule (here it is called chain)' ],

	# comments
	[ 'of C++', '// not yet',
		'p:3:1: a comment begins with #, not with //' ],
	[ 'of C', '/* not yet */',
		'p:3:1: a comment begins with #, not with /*' ],
	[ 'of ini files', '; not yet',
		'p:3:1: a semicolon ends a statement, and here is none (a comment begins with #)' ],
	[ 'of SQL', '-- not yet',
		'p:3:1: a comment begins with #, not with --' ],
	[ 'of XML', '<!-- not yet -->',
		'p:3:1: a comment begins with #, not with <!--' ],
	[ 'of X resources', '! not yet',
		'p:3:1: a comment begins with #, not with !' ],
	[ 'of TeX', '% not yet',
		'p:3:1: a comment begins with #, not with %' ],
	[ 'that sticks to a word', 'workers auto#not yet',
		'p:3:18: workers takes one value: unexpected "yet" (a blank is missing in front of #)' ],

	# names
	[ 'in capitals', 'WORKERS 4',
		'p:3:1: unknown option "WORKERS" at the top level (did you mean "workers"?)' ],
	[ 'with a hyphen', 'max-connections 10',
		'p:3:1: unknown option "max-connections" at the top level (did you mean "max_connections"?)' ],
	[ 'as one word', 'pidfile /run/postern.pid',
		'p:3:1: unknown option "pidfile" at the top level (did you mean "pid_file"?)' ],
	[ 'in camel case', 'maxConnections 10',
		'p:3:1: unknown option "maxConnections" at the top level (did you mean "max_connections"?)' ],
	[ 'in the singular', 'backend other { host 127.0.0.1:25 }',
		'p:3:1: backend other says nowhere to go (try hosts 127.0.0.1:10026)',
		'p:3:17: unknown option "host" in backend (here it is called hosts)' ],
	[ 'in quotes', '"workers" 4',
		'p:3:1: a statement begins with the name of an option or block, without quotes' ],
	[ 'that are patterns', '/workers/ 4',
		'p:3:1: a statement begins with the name of an option or block (a comment begins with #)' ],
	[ 'with a dot in front', '.include other.conf',
		'p:3:1: unknown option ".include" at the top level (did you mean "include"?)' ],
	[ 'with an s', 'includes conf.d/*.conf',
		'p:3:1: unknown option "includes" at the top level (did you mean "include"?)' ],
	[ 'of a listener, at the top', 'listen 127.0.0.1:25',
		'p:3:1: unknown option "listen" at the top level (it is known in listener)' ],
	[ 'of a back-end, in a listener', 'listener other { hosts 127.0.0.1:25 }',
		'p:3:1: listener other has no address (try listen 127.0.0.1:10025)',
		'p:3:1: listener other has no backend (try backend NAME)',
		'p:3:18: unknown option "hosts" in listener (it is known in backend)' ],
	[ 'of a listener, in a back-end', 'backend other { starttls require }',
		'p:3:1: backend other says nowhere to go (try hosts 127.0.0.1:10026)',
		'p:3:17: unknown option "starttls" in backend (it is known in listener)' ],
	[ 'of the tls block, outside', 'listener other { certificate /etc/postern/tls/cert.pem }',
		'p:3:1: listener other has no address (try listen 127.0.0.1:10025)',
		'p:3:1: listener other has no backend (try backend NAME)',
		'p:3:18: unknown option "certificate" in listener (it is known in tls)' ],
	[ 'of no filter kind', 'sieve sorter { script /etc/postern/sieve }',
		'p:3:1: unknown block "sieve" at the top level (there are: BLOCKS)' ],

	# braces and ends
	[ 'a block without braces', 'log level debug',
		'p:3:1: log is a block: write log { level debug }' ],
	[ 'a block without braces or option', 'spool /var/spool/postern',
		'p:3:1: spool is a block: write spool { ... }' ],
	[ 'a listener without braces', 'listener other listen 127.0.0.1:1 backend inner',
		'p:3:1: listener is a block: write listener other { ... }' ],
	[ 'a listener with a round bracket', 'listener other ( listen 127.0.0.1:1 )',
		'p:3:1: listener is a block: write listener other { ... }' ],
	[ 'the brace on the next line', "listener other\n{\n}",
		'p:3:1: listener is a block: write listener other { ... }',
		"p:4:1: unexpected { (it stands on the line of its block's name)" ],
	[ 'a colon behind the name', 'listener other: { listen 127.0.0.1:1; backend inner }',
		'p:3:10: listener: "other:" is not a name (letters, digits, - . and _, at most 64, the first a letter or digit)' ],
	[ 'a name with a blank', 'backend "the other" { discard yes }',
		'p:3:9: backend: "the other" is not a name (letters, digits, - . and _, at most 64, the first a letter or digit)' ],
	[ 'a brace too many', 'log { level info }}',
		'p:3:19: unexpected }: no block is open' ],
	[ 'no semicolon between two options', 'listener other { listen 127.0.0.1:1 backend inner }',
		'p:3:1: listener other has no backend (try backend NAME)',
		'p:3:37: listen: a semicolon or the end of the line is missing in front of backend' ],
	[ 'no semicolon behind one value', 'log { level info format json }',
		'p:3:18: level: a semicolon or the end of the line is missing in front of format' ],
	[ 'no semicolon in a rule', 'rule { recipient ann@example.org chain none }',
		'p:3:1: a rule needs a chain ("chain none" for no filter)',
		'p:3:34: recipient: "chain" is not an address: a semicolon or the end of the line is missing in front of it',
		'p:3:40: recipient: "none" is not an address (try @none for all of a domain)' ],
	[ 'a back-end inside a listener', 'listener other { listen 127.0.0.1:1; backend { hosts 127.0.0.1:2 } }',
		'p:3:1: listener other has no backend (try backend NAME)',
		'p:3:38: backend is an option, not a block: write backend NAME (or is a } missing above?)' ],
	[ 'an address for a back-end', 'listener other { listen 127.0.0.1:1; backend 127.0.0.1:25 }',
		'p:3:46: backend: there is no backend "127.0.0.1:25" (there are: inner)' ],
	[ 'tls as an option of a listener', 'listener other { listen 127.0.0.1:1; backend inner; tls yes }',
		'p:3:53: tls is a block: write tls { ... }' ],
	[ 'a rule with a name', 'rule partner { chain none }',
		'p:3:6: rule takes no name: write rule { ... }' ],

	# numbers and units
	[ 'seconds as sec', 'drain_timeout 30sec',
		'p:3:15: drain_timeout: "30sec" is not a duration (try 30s)' ],
	[ 'minutes as min', 'drain_timeout 5min',
		'p:3:15: drain_timeout: "5min" is not a duration (try 5m)' ],
	[ 'an hour as hour', 'drain_timeout 1hour',
		'p:3:15: drain_timeout: "1hour" is not a duration (try 1h)' ],
	[ 'a blank before the unit', 'drain_timeout 30 s',
		'p:3:18: drain_timeout takes one value: unexpected "s" (no blank stands before a unit: try 30s)' ],
	[ 'two units', 'drain_timeout 1m30s',
		'p:3:15: drain_timeout: "1m30s" is not a duration: one whole number and one unit (try 30s, 5m)' ],
	[ 'a fraction', 'drain_timeout 1.5m',
		'p:3:15: drain_timeout: "1.5m" is not a duration: one whole number and one unit (try 30s, 5m)' ],
	[ 'a negative time', 'drain_timeout -1s',
		'p:3:15: drain_timeout: "-1s" is not a duration (try 30s, 5m)' ],
	[ 'a time in words', 'drain_timeout never',
		'p:3:15: drain_timeout: "never" is not a duration (try 30s, 5m)' ],
	[ 'megabytes', 'spool { min_free 64MB }',
		'p:3:18: min_free: "64MB" is not a size (try 64M)' ],
	[ 'mebibytes', 'spool { min_free 64MiB }',
		'p:3:18: min_free: "64MiB" is not a size (try 64M)' ],
	[ 'a blank before M', 'spool { min_free 64 M }',
		'p:3:21: min_free takes one value: unexpected "M" (no blank stands before a unit: try 64M)' ],
	[ 'a fraction of a gigabyte', 'spool { min_free 1.5G }',
		'p:3:18: min_free: "1.5G" is not a size: one whole number and one unit (try 64K, 50M)' ],
	[ 'a share', 'spool { min_free 10% }',
		'p:3:18: min_free: "10%" is not a size (try 64K, 50M)' ],
	[ 'a fraction of a worker', 'workers 2.5',
		'p:3:9: workers: "2.5" is neither a number nor auto' ],
	[ 'a number in words', 'backend other { hosts 127.0.0.1:1; max_connections many }',
		'p:3:52: max_connections: "many" is not a number (try 20)' ],

	# words
	[ 'on and off', 'listener other { listen 127.0.0.1:1; backend inner; received off }',
		'p:3:62: received: "off" is neither yes nor no (try no)' ],
	[ 'Yes and No', 'listener other { listen 127.0.0.1:1; backend inner; received No }',
		'p:3:62: received: "No" is neither yes nor no (try no)' ],
	[ 'maybe', 'listener other { listen 127.0.0.1:1; backend inner; received maybe }',
		'p:3:62: received: "maybe" is neither yes nor no' ],
	[ 'nothing for yes', 'backend other { discard }',
		'p:3:1: backend other says nowhere to go (try hosts 127.0.0.1:10026)',
		'p:3:17: discard needs a value (try discard yes)' ],
	[ 'a level of syslog', 'log { level notice }',
		'p:3:13: level: "notice" is not one of: error warn info debug' ],
	[ 'a facility in capitals', 'log { facility LOG_MAIL }',
		'p:3:16: facility: "LOG_MAIL" is not one of: mail daemon user local0 local1 local2 local3 local4 local5 local6 local7' ],
	[ 'two log targets', 'log { to syslog, stderr }',
		'p:3:18: to takes one value: unexpected "stderr"' ],
	[ 'a file with a scheme', 'log { to file:/var/log/postern.log }',
		'p:3:7: to: "file:/var/log/postern.log" is no log target (try syslog, journal, stderr or /var/log/postern/log)' ],
	[ 'a home folder', 'backend other { maildir ~/Maildir }',
		'p:3:17: maildir: "~/Maildir" is not an absolute path' ],
	[ 'a greeting without quotes', 'listener other { listen 127.0.0.1:1; backend inner; greeting Good day }',
		'p:3:67: greeting takes one value: unexpected "day" (words that belong together stand in quotes)' ],
	[ 'a level of TLS of Postfix', 'backend other { hosts 127.0.0.1:1; tls may }',
		'p:3:40: tls: "may" is not one of: none opportunistic required verify' ],
	[ 'a protocol that comes later', 'listener other { listen 127.0.0.1:1; backend inner; protocol lmtp }',
		'p:3:62: protocol: "lmtp" is not possible, only smtp is' ],
	[ 'a password instead of its file', 'backend other { hosts 127.0.0.1:1; auth_password secret }',
		'p:3:36: unknown option "auth_password" in backend (did you mean "auth_password_file"?)' ],
	[ 'no user', 'user ""',
		'p:3:1: user: the name is empty (try user postern)' ],
	[ 'two users', 'user postern mail',
		'p:3:14: user takes one value: unexpected "mail"' ],
	[ 'a host name that is an address', 'hostname 192.0.2.1',
		'p:3:1: hostname: "192.0.2.1" is not a host name (try gate.example.org)' ],
	[ 'a host name with two dots', 'hostname gate..example',
		'p:3:1: hostname: "gate..example" is not a host name (try gate.example.org)' ],

	# addresses
	[ 'a port alone', 'listener other { listen 10026; backend inner }',
		'p:3:25: listen: "10026" is not an address (try 127.0.0.1:10026, [::1]:10026 or unix:/path)' ],
	[ 'a port apart', 'listener other { listen 127.0.0.1 10026; backend inner }',
		'p:3:25: listen: "127.0.0.1" has no port (try 127.0.0.1:25)',
		'p:3:35: listen: "10026" is not an address (try 127.0.0.1:10026, [::1]:10026 or unix:/path)' ],
	[ 'a star', 'listener other { listen *:10026; backend inner }',
		'p:3:25: listen: "*:10026" is not an address (try 0.0.0.0:10026 or [::]:10026)' ],
	[ 'a port by name', 'listener other { listen 127.0.0.1:smtp; backend inner }',
		'p:3:25: listen: "127.0.0.1:smtp": port "smtp" is not a number from 0 to 65535 (try 25)' ],
	[ 'an empty port', 'listener other { listen 127.0.0.1:; backend inner }',
		'p:3:25: listen: "127.0.0.1:" has no port (try 127.0.0.1:25)' ],
	[ 'IPv6 without a port', 'listener other { listen [::1]; backend inner }',
		'p:3:25: listen: "[::1]" has no port (try [::1]:25)' ],
	[ 'a URL', 'listener other { listen smtp://127.0.0.1:10026; backend inner }',
		'p:3:25: listen: "smtp://127.0.0.1:10026" is not an address (try 127.0.0.1:10026)' ],
	[ 'a socket of a milter', 'listener other { listen inet:10026@127.0.0.1; backend inner }',
		'p:3:25: listen: "inet:10026@127.0.0.1" is not an address (try 127.0.0.1:10026)' ],
	[ 'a path without unix:', 'listener other { listen /run/postern/in; backend inner }',
		'p:3:25: listen: "/run/postern/in" is not an address (try unix:/run/postern/in)' ],
	[ 'a path that is too long', 'listener other { listen unix:/' . 'x' x 108 . '; backend inner }',
		'p:3:25: listen: "unix:/' . 'x' x 108 . '" is too long (at most 107 octets of path)' ],
	[ 'commas between addresses', 'listener other { listen 127.0.0.1:10026,127.0.0.1:10027; backend inner }',
		'p:3:25: listen: "127.0.0.1:10026,127.0.0.1:10027": blanks stand between values, not commas (try 127.0.0.1:10026 127.0.0.1:10027)' ],
	[ 'all addresses beside one of them', 'listener other { listen 0.0.0.0:10025; clients any; backend inner }',
		"p:3:25: listen: 0.0.0.0:10025 and 127.0.0.1:10025 of listener front cannot both be: one takes the other's port on all addresses" ],
	[ 'brackets as in Postfix', 'backend other { hosts [mail.example.org]:25 }',
		'p:3:23: hosts: "[mail.example.org]:25" is not an address (try mail.example.org:25)' ],
	[ 'a transport as in Postfix', 'backend other { hosts smtp:[127.0.0.1]:25 }',
		'p:3:23: hosts: "smtp:[127.0.0.1]:25" is not an address (try 127.0.0.1:25)' ],
	[ 'commas between hosts', 'backend other { hosts mx1.example.org:25, mx2.example.org:25 }',
		'p:3:23: hosts: "mx1.example.org:25,": blanks stand between values, not commas (try mx1.example.org:25)' ],
	[ 'port 0 of a host', 'backend other { hosts 127.0.0.1:0 }',
		'p:3:23: hosts: 127.0.0.1:0: nobody can be reached at port 0 (try 25)' ],
	[ 'no host', 'backend other { hosts }',
		'p:3:17: hosts needs a value (try hosts 127.0.0.1:10025)' ],
	[ 'a netmask', 'listener other { listen 127.0.0.1:1; backend inner; clients 10.0.0.0/255.0.0.0 }',
		'p:3:61: clients: "10.0.0.0/255.0.0.0" is not a network (try 10.0.0.0/8)' ],
	[ 'a network of sendmail', 'listener other { listen 127.0.0.1:1; backend inner; clients 192.0.2. }',
		'p:3:61: clients: "192.0.2." is not a network (try 192.0.2.0/24)' ],
	[ 'all for any', 'listener other { listen 127.0.0.1:1; backend inner; clients all }',
		'p:3:61: clients: "all" is not a network (try any)' ],
	[ 'a range', 'listener other { listen 127.0.0.1:1; backend inner; clients 10.0.0.1-10.0.0.9 }',
		'p:3:61: clients: "10.0.0.1-10.0.0.9" is not a network (try 127.0.0.0/8, ::1 or 192.0.2.7)' ],
	[ 'commas between networks', 'listener other { listen 127.0.0.1:1; backend inner; clients 10.0.0.1, 10.0.0.2 }',
		'p:3:61: clients: "10.0.0.1,": blanks stand between values, not commas (try 10.0.0.1)' ],

	# rules and chains
	[ 'a star for a domain', 'rule { recipient *@example.org; chain none }',
		'p:3:18: recipient: "*@example.org": a star stands for nothing here (try @example.org)' ],
	[ 'a star for subdomains', 'rule { recipient *.example.org; chain none }',
		'p:3:18: recipient: "*.example.org": a star stands for nothing here (try .example.org)' ],
	[ 'a table as Postfix has it', "rule { recipient hash:/etc/postfix/list; chain none }",
		'p:3:18: recipient: "hash:/etc/postfix/list" is no list here (try file:PATH or lmdb:PATH; a /pattern/ stands in the list itself)' ],
	[ 'a pattern with a flag', 'rule { recipient /example/i; chain none }',
		'p:3:18: recipient: "/example/i" is not a pattern: nothing stands behind its last slash (case is ignored anyway)' ],
	[ 'two at signs', 'rule { recipient ann@@example.org; chain none }',
		'p:3:18: recipient: "ann@@example.org" has more than one @' ],
	[ 'commas between recipients', 'rule { recipient @a.example, @b.example; chain none }',
		'p:3:18: recipient: "@a.example,": blanks stand between values, not commas (try @a.example)' ],
	[ 'commas in a chain', "dummy slow { }\ndefault_chain slow,",
		'p:4:15: default_chain: "slow,": blanks stand between values, not commas (try slow)' ],
	[ 'no filter at all', 'default_chain virus',
		'p:3:15: default_chain: there is no filter "virus" (nor any other: a block such as dummy NAME { ... } makes one)' ],
	[ 'another filter', "dummy slow { }\ndefault_chain virus",
		'p:4:15: default_chain: there is no filter "virus" (there are: slow)' ],
	[ 'a filter kind without a name', 'dummy { }',
		'p:3:1: dummy needs a name: write dummy NAME { ... }' ],
	[ 'a failure that skips', 'dummy slow { on_failure skip }',
		'p:3:25: on_failure: "skip" is not one of: tempfail reject pass disconnect quarantine' ],

	# what the eye does not see
	[ 'a no-break space', "workers\xc2\xa04",
		'p:3:1: a no-break space stands here (type a plain blank)' ],
	[ 'typographic quotes', "hostname \xe2\x80\x9cgate\xe2\x80\x9d",
		'p:3:10: a typographic quote does not quote (use "...")' ],
	[ 'a zero-width space', "workers \xe2\x80\x8b4",
		'p:3:9: an invisible character stands here (U+200B: remove it)' ],
	[ 'a byte order mark in the middle', "\xef\xbb\xbfworkers 4",
		'p:3:1: an invisible character stands here (U+FEFF: remove it)' ],
	[ 'a long dash', "workers \xe2\x80\x934",
		'p:3:9: a dash that is longer than a hyphen stands here (type -)' ],
	[ 'line ends of old Macintoshes', "workers 4\rhostname x\r",
		'p:3:10: control character \\x0d (a CR alone ends no line: LF or CRLF does)' ],
	[ 'a file that is a program', "\x7fELF\x02\x01\x01\x00\x00\x00",
		'p:3:8: a NUL octet: this is not a text file' ],
);

my %seen;
for my $case (@mistakes) {
	my ($name, $conf, @messages) = @$case;

	ok(!$seen{$conf}++, "$name: is not in the table yet");
	write_file("$dir/p", "$good$conf\n");
	my ($status, $out) = postern('-t -c p');
	is($out, join('', map { "$_\n" } @messages), "the message: $name") or diag $conf;
	is($status, 78, "the exit status: $name");
}

# A message is a place and a sentence, and almost every one says what would be right.
my @all = map { my (undef, undef, @messages) = @$_; @messages } @mistakes;
is(join("\n", grep { !/^p:\d+:\d+: \S/ } @all), '', 'every message begins with file, line and column');
my @silent = grep { !/\(|write |try |not with|begins with|missing in front|cannot both|no block is open|are not|is not (?:one of|possible|an? )|neither|more than one|one value|without quotes|is missing|use /} @all;
is(join("\n", @silent), '', 'every message says what would be right') or diag explain \@silent;
cmp_ok(scalar @mistakes, '>=', 60, 'there are enough of them');

# ---- included files --------------------------------------------------------------------------

# name, the files beside p, what stands in p behind two good lines, messages
mkdir "$dir/conf.d";
my @includes = (
	[ 'a folder that is not there', {}, 'include nothere/*.conf',
		'p:3:9: warning: include: nothere/*.conf: there is no folder nothere/' ],
	[ 'a file that is not there', {}, 'include nothere.conf', 'p:3:9: include: nothere.conf: No such file or directory' ],
	[ 'a folder in place of its files', {}, 'include conf.d',
		'p:3:9: include: conf.d: is a directory (try its files: DIRECTORY/*.conf)' ],
	[ 'angle brackets as in C', {}, 'include <other.conf>', 'p:3:9: include: <other.conf>: No such file or directory' ],
	[ 'two files that include each other', { 'a.conf' => "include b.conf\n", 'b.conf' => "\ninclude a.conf\n" },
		'include a.conf', 'b.conf:2:9: include: a.conf includes itself (a loop)' ],
	[ 'the same file twice', { 'a.conf' => "workers 2\n" }, "include a.conf\ninclude a.conf",
		'a.conf:1:1: workers is given twice (first at a.conf:1:1)' ],
	[ 'a value that is in an included file, too', { 'a.conf' => "# ours\nworkers 2\n" }, "workers 4\ninclude a.conf",
		'a.conf:2:1: workers is given twice (first at p:3:1)' ],
	[ 'a back-end of the same name', { 'conf.d/a.conf' => "backend inner { discard yes }\n" }, 'include conf.d/*.conf',
		'conf.d/a.conf:1:9: backend "inner" is defined twice (first at p:2:1)' ],
	[ 'a brace that is closed in another file', { 'a.conf' => "log {\n", 'b.conf' => "level debug }\n" },
		"include a.conf\ninclude b.conf", 'a.conf:1:5: this { is never closed (is a } missing?)',
		'b.conf:1:1: unknown option "level" at the top level (it is known in log)',
		'b.conf:1:13: unexpected }: no block is open' ],
);
for my $case (@includes) {
	my ($name, $files, $conf, @messages) = @$case;

	write_file("$dir/$_", $files->{$_}) for keys %$files;
	write_file("$dir/p", "$good$conf\n");
	my ($status, $out) = postern('-T -c p');
	is(join("\n", grep { /^\S+:\d+:\d+: / } split /\n/, $out), join("\n", @messages), "an include: $name");
	unlink map { "$dir/$_" } keys %$files;
}

# ---- the command line --------------------------------------------------------------------------

write_file("$dir/p", $good);
# name, arguments, exit status, the first line of what is said
my @commands = (
	[ 'a file that is not there', '-t -c nothere', 78, 'nothere: No such file or directory (postern -T default prints one to begin with)' ],
	[ 'a folder for a file', '-t -c conf.d', 78, 'conf.d: is a directory (try a file in it)' ],
	[ 'a folder for a file, at a start', '-f -c conf.d', 78, 'conf.d: is a directory (try a file in it)' ],
	[ 'no file behind -c', '-t -c', 64, 'postern: -c needs a file behind it' ],
	[ 'a file without -c', '-t p', 64, 'postern: "p" is one word too many (a file is named with -c)' ],
	[ 'a file without -c, for a start', 'p', 64, 'postern: "p" is one word too many (a file is named with -c)' ],
	[ 'a switch that is not there', '-d -c p', 64, 'postern: there is no switch -d' ],
	[ 'a long switch', '--help', 64, 'postern: there is no switch --help (switches have one letter: -h)' ],
	[ 'a long switch with a file', '--config=p -t', 64, 'postern: there is no switch --config=p (switches have one letter: -c)' ],
	[ 'a word behind -T that is none', '-T defaults', 64, 'postern: -T takes nothing, or the word default, filters, log-lines or metrics, not "defaults"' ],
	[ 'a command of a script in init.d', 'start', 64, 'postern: "start" is one word too many (a file is named with -c)' ],
);
for my $case (@commands) {
	my ($name, $args, $wanted, $first) = @$case;
	my ($status, $out) = postern($args);

	is($out =~ s/\n.*//sr, $first, "postern $args: $name");
	is($status, $wanted, "postern $args: the exit status");
	like($out, qr/^usage: postern /m, "postern $args: and the usage") if $wanted == 64 && $args !~ /-T/;
}

# ---- starts ----------------------------------------------------------------------------------------

# A start says the first thing that is in its way, on the terminal; postern -t would have said all.
my $taken = IO::Socket::INET->new(LocalAddr => '127.0.0.1:0', Listen => 1) or die;
my $port = $taken->sockport;
my $user = is_root() ? "user nobody\n" : '';
my $listener = "listener front { listen 127.0.0.1:0; backend inner }\nbackend inner { discard yes }\n";
mkdir "$dir/spool", 0700;
chown +(getpwnam 'nobody')[2], -1, "$dir/spool" if is_root();
my $spool = "spool { directory $dir/spool }\n";
# name, configuration, what is said; root: only root can make this mistake
my @starts = (
	[ 'root without a user', "$listener$spool", 'refusing to run as root: name a user to become (try user postern)', 'root' ],
	[ 'root as the user', "${listener}user root\n$spool", 'refusing to run as root: user must be another one (try user postern)', 'root' ],
	[ 'a user that is not there', "${listener}user nosuchuser\n$spool",
		'user: there is no user "nosuchuser" (try adduser --system --group nosuchuser)', 'root' ],
	[ 'a port that somebody has', "listener front { listen 127.0.0.1:$port; backend inner }\nbackend inner { discard yes }\n$user$spool",
		"listener front: cannot listen on 127.0.0.1:$port: address already in use (another program listens there; ss -ltnp tells which)" ],
	[ 'an address of another machine',
		"listener front { listen 192.0.2.55:10025; clients any; backend inner }\nbackend inner { discard yes }\n$user$spool",
		'listener front: cannot listen on 192.0.2.55:10025: address not available (no interface of this machine has it)' ],
	[ 'a pid file in no folder', "$listener$user${spool}pid_file $dir/no/pid\n", "pid_file $dir/no/pid: No such file or directory" ],
	[ 'a log in no folder', "$listener$user${spool}log { to $dir/no/log }\n",
		"log $dir/no/log: No such file or directory (it must be writable for the user Postern becomes, and a FIFO must have a reader)", '', '' ],
);
for my $case (@starts) {
	my ($name, $conf, $said, $needs_root, @args) = @$case;

	next if $needs_root && !is_root();
	write_file("$dir/p", $conf, 0644);
	my ($status, $out) = postern(@args ? '-c p' : '-f -c p');
	is($out, "postern: $said\n", "a start: $name");
	is($status, 78, "a start: $name: the exit status");
}

done_testing;
