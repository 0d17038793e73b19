"""The words and sentences of synthetic.stories: data only, all written for this project.

Texts are alternatives divided by |, with these marks:

    [small|big]      one of them, anew at each place; may be nested
    {toy} {TOY}      one of WORDS["toy"]; in capitals it is drawn once and kept for the story
    $1 $2 $3         the name of the hero, of the friend, of the third one
    <he1> <His2>     a pronoun of theirs; also <girl1> (or boy), <sister1> (or brother)

A sentence gets its capital by itself; "a" becomes "an" by itself before a slot or a choice.
"""

GIRLS = """Lily Anna Mia Emma Sara Lucy Ella Zoe Nora Ruth Clara Julia Molly Sophie Alice Jane Kate
Helen Maria Nina Tara Leah Megan Fiona Greta Hannah Ingrid Laura Naomi Paula Rachel Susan Tessa
Vera Wendy Yasmin Amira Bella Carmen Dora Edith"""
BOYS = """Tom Ben Sam Tim Leo Max Jack Adam Noah Luke Peter Paul Oscar Henry David Simon Felix
Hugo Anton Boris Carlos Daniel Edward Fred George Harry Ivan Jacob Kevin Liam Martin Nathan Omar
Philip Robert Samir Theo Victor Walter Yusuf"""
# Of invented names: one of the first, a vowel, one of the second, a vowel.
NAME_STARTS = "B D F G H K L M N P R S T V Z Br Dr Fl Gr Kl Pr St Tr"
NAME_MIDDLES = "b d f g k l m n p r s t v z"

WORDS = {
    "trait": """cheerful|shy|curious|brave|quiet|clever|stubborn|gentle|noisy|careful|lively|
        sleepy|thoughtful|kind|merry|proud|impatient|friendly|dreamy|patient|bold|playful|
        sensible|tidy|untidy|polite|forgetful|restless|good-hearted|hard-working|serious|bright|
        talkative""",
    "look": """small|big|shiny|painted|striped|smooth|heavy|wooden|golden|silver|tiny|round|
        long|wonderful|strange|pretty|plain|dusty|crooked|simple|splendid|spotted|green|red|
        blue|yellow|purple|white|brown|orange|old|new|borrowed|home-made|second-hand|carved|odd|
        fine|bright""",
    "toy": """kite|boat|drum|whistle|ball|doll|train|puppet|spinning top|lantern|compass|bell|
        cup|spoon|key|box|button|marble|flute|book|map|ribbon|hat|scarf|mitten|teddy bear|wagon|
        bucket|basket|necklace|ring|watch|pencil case|notebook|feather|shell|stone|music box|
        magnet|magnifying glass|paintbrush|blanket|umbrella|toy horse|rattle|mirror|penknife|
        medal""",
    "kin": """mother|father|grandmother|grandfather|aunt|uncle|big sister|big brother|
        great-aunt|godmother|stepfather|nanny""",
    "worker": """baker|miller|postman|teacher|farmer|fisherman|carpenter|gardener|shepherd|
        tailor|librarian|shopkeeper|doctor|sailor|bus driver|painter|cook|beekeeper|potter|
        cobbler|clockmaker|blacksmith|ferryman|nurse|toymaker""",
    "friend": """friend|best friend|cousin|neighbour|classmate|playmate|oldest friend""",
    "place": """the park|the market|the river|the old mill|the beach|the farm|the library|the
        village green|the duck pond|the railway station|the playground|the harbour|the orchard|
        the stone bridge|the town square|the school|the lighthouse|the meadow|the bakery|the
        edge of the wood|the castle ruins|the bus stop|the mountain hut|the well|the stables|the
        greenhouse|the ferry|the museum|the windmill|the fountain|the toy shop""",
    "spot": """under [the bed|the stairs|a chair|the sofa|the kitchen table|a wet leaf|the
        piano]|behind [the curtain|the shed|the stove|the cupboard|a barrel|the door|a pile of
        wood]|in [the laundry basket|an empty flower pot|a drawer|the long grass|a rubber boot|
        the hay]|on top of [the wardrobe|the bookcase|a wall|the rabbit hutch]|between [two
        stones|the cushions|two sacks of flour|the roots of an oak]|beside [the gate|the pump|a
        puddle|the compost heap]""",
    "creature": """hedgehog|rabbit|squirrel|sparrow|duckling|mouse|frog|owl|lamb|kitten|fox cub|
        turtle|blackbird|foal|goose|beetle|bat|crow|deer|seagull|mole|robin|toad|swan|badger|
        pigeon|calf|lizard|otter|piglet""",
    "creatures": """hedgehogs|rabbits|squirrels|frogs|owls|lambs|foxes|turtles|geese|beetles|
        bats|deer|seagulls|moles|toads|swans|lizards|otters|lions|elephants|dragons|whales|
        camels""",
    "pet": """dog|puppy|cat|kitten|pony|goat|parrot|donkey|rabbit|tortoise|hen|duck""",
    "colour": """red|blue|green|yellow|white|black|brown|grey|pink|purple|orange|golden|silver""",
    "tree": """oak|apple tree|pine|willow|chestnut tree|cherry tree|birch|lime tree|fir|pear
        tree|maple|hazel bush|plum tree|elm""",
    "food": """bread|cheese|soup|apples|pancakes|plums|nuts|honey cake|carrots|biscuits|
        porridge|cherries|raisins|noodles|rice|potatoes|beans|pears|jam sandwiches|gingerbread|
        buns|dumplings|strawberries|toast|grapes|corn|boiled eggs|peaches|walnut bread|berries""",
    "dish": """pot of soup|apple pie|loaf of bread|bowl of cherries|bag of nuts|honey cake|plate
        of pancakes|jar of plum jam|basket of pears|box of biscuits|dish of dumplings|bunch of
        grapes|tin of gingerbread|cheese sandwich|bag of roasted chestnuts|melon|slice of lemon
        tart|carrot cake|bowl of rice pudding|tray of buns""",
    "glad": """happy|glad|pleased|proud|delighted|cheerful|warm inside|as light as a feather|
        full of joy|thankful|merry|better than ever|very lucky|ready to sing|calm|content""",
    "sad": """sad|unhappy|gloomy|miserable|lonely|upset|sorry|close to tears|disappointed|
        heavy-hearted|downcast|quite hopeless|wretched""",
    "afraid": """afraid|nervous|scared|worried|frightened|uneasy|anxious|shaky|[a little|rather]
        alarmed|timid|troubled""",
    "said": """said|whispered|cried|called|answered|shouted|replied|murmured|laughed|sighed|
        announced|declared|mumbled""",
    "asked": "asked|wondered|inquired",
    "how": """slowly|gently|quickly|carefully|bravely|quietly|happily|eagerly|patiently|
        cautiously|proudly|softly|with a grin|with great care|with a serious face|calmly|
        solemnly|warmly|cheerfully|politely|shyly|with bright eyes|with a nod|as usual""",
    "when": """[|cold |rainy |windy |sunny |grey |misty |bright |quiet |dull |cool |stormy
        ][morning|afternoon|Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday|evening|
        day|day in [April|October|March|November]|day before [breakfast|dinner|the holidays|the
        harvest]]|[warm|hot|bright|lazy|dusty] [summer day|day in [June|July|August]|spring
        morning]|[frosty|white|grey|short|clear] [winter day|day in [January|December]|autumn
        afternoon]""",
    "later": """[|A little |Much |Some time ]later|After [a while|lunch|supper|an hour|ten
        minutes|a long time|that]|Before [long|dark|noon|bedtime]|[Soon|At last|Meanwhile|In the
        end]|[That|The same] [afternoon|evening|day]|[The next|The following] [day|morning]|
        [Two|Three|Four|Five|Six] [days|hours|weeks] later|When the clock struck [two|four|five|
        six]|At [sunset|noon|teatime|the weekend]|Once the [dishes|chores] were done""",
    "home": """a [narrow|crooked|tall|cosy|yellow|noisy|tidy|white|stone|brick|low|draughty|
        little] [house|cottage|cabin|farmhouse|hut|flat|tower|houseboat] [by the river|near the
        forest|above the bakery|on a hill|at the end of the lane|behind the church|close to the
        sea|in the middle of the town|under two tall poplars|next to the school|at the foot of a
        mountain|across from the fire station|with a {colour} [door|roof|gate|chimney|fence]]""",
    "sky": """the sun [was shining|shone on the roofs|was just rising|peeped through the
        clouds]|it was [raining softly|quite warm|windy|foggy|nearly dark|drizzling|rather
        cool]|[grey|white|pink|dark|fluffy] clouds [sailed by|hung over the hills|filled the
        sky]|a [cool|warm|salty|sharp|soft] wind [blew|was blowing from the [sea|north|hills]]|
        the grass [was wet|smelled sweet|waved in the wind]|the [leaves|roads|fields|roofs] were
        [wet|steaming|golden|glittering]|the moon [was still up|had gone behind a cloud]|the air
        smelled of [hay|rain|smoke|fresh bread|lilac|seaweed|pine needles|wet earth]""",
    "game": """hide and seek|chess|leapfrog|pirates|shop|catch|hopscotch|dominoes|tag|marbles|
        cards|knights and dragons|school|explorers|skittles|circus""",
    "job": """swept the yard|fed the hens|counted snails|picked [beans|apples|mushrooms|
        daisies]|carried [wood|water|the shopping|letters]|painted [a fence|a sign|eggs|pictures
        of ships]|hung up the washing|polished [boots|spoons|lamps]|folded paper [boats|birds|
        stars]|skipped stones|climbed [trees|walls|the haystack]|read [old stories|about
        pirates|maps]|planted [beans|bulbs|radishes]|watched [the clouds|the trains|ants|the
        boats]|built [towers|dams|a den|sandcastles]|baked [rolls|biscuits|mud pies]|mended
        [nets|socks|a chair]|sang [songs|rounds]|shelled peas|raked leaves|collected [shells|
        stamps|pebbles|feathers|bottle tops]|looked for four-leaf clovers""",
    "skill": """ride a bicycle|swim|whistle|skate|knit|play the [flute|drum|piano|trumpet]|tie a
        sailor's knot|juggle|bake bread|read the clock|walk on stilts|milk a goat|jump rope
        backwards|write with ink|row a boat|paint a horse|fly a kite|dive|ski|carve a spoon|
        stand on one leg|sew on a button""",
    "sound": """a [creak|thump|splash|rustle|squeak|crash|hiss|tiny cry|long howl|soft knock|
        rattle|strange hum|cough|loud bang|scratching noise|faint bell]""",
    "oh": """Oh|Look|Goodness|Dear me|Listen|Well|My word|Heavens|Wait|Oh dear|Just look|
        Gracious|Good heavens""",
    "very": """very|so|rather|quite|terribly|really|ever so|truly""",
    "nice": """kind|lovely|clever|good|brave|fine|sweet|wonderful|generous|thoughtful""",
    "bird": """blackbird|robin|crow|wren|pigeon|swallow|cuckoo|magpie|starling|lark|sparrow|
        gull|linnet""",
    "flower": """tulips|bluebells|poppies|sunflowers|snowdrops|violets|marigolds|nettles|ferns|
        dandelions|pansies|thistles|roses|foxgloves""",
    "cloth": """coat|jacket|cap|boots|jumper|raincoat|gloves|scarf|apron|slippers|mittens""",
    "gift": """a [{look} {toy}|pair of [skates|socks|stilts|slippers]|bag of [sweets|marbles|
        seeds]|picture of [a ship|a lion|the moon|a dragon]|jar of [honey|jam|pickles|glitter]|
        poem about [the sea|a bear|winter|a tired king]|pot of {flower}|card with a {creature}
        on it|book about [stars|trains|whales|knights|volcanoes|bees]]""",
    "moral": """a [friend|kind word|promise|little help|good laugh|warm meal|brave heart] [is
        worth more than [gold|a hundred toys|any prize|a big house]|can [mend a bad day|light up
        a dark room|make a long road short|change everything]|should never be [forgotten|taken
        for granted]]|[it is better to [ask|share|wait|try|listen|laugh|tell the truth] than to
        [worry|hide|shout|give up|sulk|grumble|boast|guess]]|[everyone|even a grown-up|every
        child|each of us] [needs help [sometimes|now and then]|can make a mistake|is afraid of
        something|has to start small|may be wrong]|[patience|kindness|courage|honesty|sharing|
        practice|forgiving|listening] [pays in the end|makes friends|costs nothing|is harder
        than it looks|is stronger than [anger|fear|bad luck|pride]]""",
}

OPENINGS = """
[once|once upon a time|long ago|some years ago|many years ago|not so long ago] there was a
    {trait} [|little |young ]<girl1> called $1, [who lived in {home}|whose house had a {colour}
    door|who loved {food} more than anything|who {job} every [morning|Sunday|evening]]. |
in {home} lived a {trait} <girl1> [called|named|by the name of] $1. [<He1> often {job}|<He1>
    liked {food}, [singing|old songs|long walks|rainy days|puzzles] and [stories|snow|the sea]|
    Most days <he1> {job} with <his1> {kin}]. |
one {when}, a <girl1> [called|named] $1 {job} near {place}. [<He1> was a {trait} child|<He1> was
    [five|six|seven|eight|nine] years old|It had been <his1> own idea]. |
it was a {when}, and {sky}. [in {home}|Not far from {place}|Outside, near {place}], a {trait}
    <girl1> [called|named] $1 [was [bored|busy|wide awake|thinking|eating {food}]|{job} all by
    <him1>self]. |
do you know the [story|tale] of $1? <He1> was a {trait} <girl1> who lived with <his1> {kin} in
    {home}. |
near {place} [there lived|there once lived] a <girl1> whose name was $1. Everybody [knew|said]
    that $1 was [{very} |]{trait}[ and {trait}|, just like <his1> {kin}|, even on Mondays|]. |
when [the {worker} was young|the {tree} by the gate was still small|winter came early one year],
    a {trait} <girl1> [called|named] $1 [came to live in {home}|{job} every day of the week]. |
every [morning|afternoon|Saturday|evening] a <girl1> [called|named] $1 [walked|ran|skipped|
    wandered] to {place}. [The {worker} always waved|On the way <he1> {job}|<He1> wore a
    {colour} [cap|scarf|coat]]. |
far away, [beyond the hills|behind seven mountains|on a green island|in a sleepy valley], there
    was {home}. A {trait} <girl1> called $1 lived there with <his1> {kin}[ and {number} {colour}
    hens| and a lazy cat| and a lot of books|]. |
this is [a|the] story about $1, a {trait} <girl1> from {home}. [It begins on a {when}|It
    happened when {sky}|You may have met <his1> {kin}, the {worker}]. |
the {worker}'s [eldest child|youngest child|only child] was called $1, and [so {trait} a <girl1>
    was hard to find|everybody called <him1> {trait}]. |
on a {when}, when {sky}, little $1 [sat|stood|was waiting] near {place}. The <girl1> was [{very} |
    ]{trait}, [as everybody knew|but not on that day|and only [five|six|seven] years old].
"""
WORDS["number"] = "two|three|four|five|six|seven|nine|ten|eleven|twelve"

FRIENDS = """
<his1> {friend} $2 [lived next door|lived [two|three] streets away|was a {trait} <girl2>|had a
    {colour} [bicycle|cap|coat|scooter]], and [the two of them|they] often played {game}. |
$1 had a {friend} called $2, [a {trait} <girl2>|who was [older|younger|taller|smaller]|who was
    never without a {look} {toy}]. |
next door lived $2, a {trait} <girl2> [who liked {game}|with {colour} boots|who could not sit
    still|whose {kin} was a {worker}]. $1 [liked $2 [very much|a lot]|and $2 were {friends}]. |
nobody [played {game}|told jokes|ate {food}|climbed trees] better than <his1> {friend}, a
    <girl2> called $2. |
one person always [came along|made $1 laugh|knew what to do]: $2, <his1> {friend}. $2 was
    {trait}, and $1 was [not|the same|{very} glad of it]. |
"I [am bored|have an idea|cannot wait|woke up early]," said $1 to $2, <his1> {friend}. The
    <girl2> [nodded|laughed|yawned|put down the {toy}]. |
that day <he1> met $2, a {trait} <girl2> [from the next village|with a {look} {toy}|who was
    eating {food}], and [soon they were {friends}|$1 [smiled|waved|said hello] {how}]. |
with <him1> was $2, <his1> {friend}, [who carried a {look} {toy}|who had brought {food}|who was
    just as {trait}|in a {colour} [coat|jumper|hat]].
"""
WORDS["friends"] = """good friends|the best of friends|hardly ever apart|always together|friends
since the spring|as close as two peas"""

# What may happen in any story: at home or outside, by day or by night.
ASIDES = """
somewhere a {bird} [sang|called|was calling|woke up], and {sky}. |
"are you [{glad}|{afraid}|hungry|ready|tired|warm enough]?" {asked} $2. $1 [nodded {how}|shook
    <his1> head|only smiled|shrugged|thought about it|scratched <his1> nose]. |
$1 [looked|glanced] at $2, and $2 looked at $1. Then [both of them|they both] [laughed|sighed|
    blushed|shrugged|said the same word]. |
"my {kin} [says|told me] that {moral}," {said} $2. [$1 was not sure|$1 had never thought of
    that|"Maybe," said $1|"Is that so?" {asked} $1]. |
$2 [found|had] [some {food}|a {look} button|a bit of string|a {look} pebble|half a pencil] in
    <his2> pocket and [gave it all to $1|showed it to $1|put it back]. |
$1 [hummed|sang|whistled] a [song|tune] about a [{trait}|{colour}] {creature}, and $2 [joined
    in|clapped|pretended not to hear|tapped <his2> foot]. |
a {worker} went by with [a {look} {toy}|a basket of {food}|two {colour} {pets}] and [waved|
    nodded|said good day] to $1 and $2. |
"{oh}!" {said} $2. "[There is a {creature} over there|I can smell {food}|I saw a {look} {toy}|My
    {cloth_one} is torn|It is getting late]." $1 [laughed|turned round|did not hear|stopped
    {how}]. |
"[tell me|do you know], $2," {asked} $1, "[why is the sky blue|where do {bird}s sleep|who made
    the first {toy}|how old is the {worker}|what would a {creature} do]?" $2 [had no idea|
    thought for a while|said that nobody knew|made up an answer]. |
it was [{very} |][quiet|cool|bright|warm] now, and $1 could hear {sound} [from far away|nearby|
    behind the {tree}]. |
$1 [thought of|remembered] [<his1> {kin}|the {worker}|a story about a {trait} {creature}|the
    {food} at home], and that made <him1> feel {feel}. |
for a while they talked about [{game}|{food}|the {worker}|{creatures}|the holidays|dreams], and
    $2 told $1 [a secret|a joke|the whole story of a {trait} king|about <his2> {kin}]. |
a {look} [leaf|feather|cloud|butterfly|moth|beetle] [came down on|floated past|drifted over] $2,
    and [that seemed a good sign|$1 pointed at it|nobody spoke]. |
"I [wish I had|once saw|dreamed of] [a {look} {toy}|a {trait} {creature}|{number} {colour}
    {pets}]," {said} $1. "[So do I|Me too|So you said|I do not|How strange]," {said} $2. |
the {flower} near {place} were [in bloom|very tall|wet], and $2 [picked {number}|counted
    {number}|fell over them]. "{oh}, $2!" said $1.
"""
WORDS["pets"] = "dogs|cats|goats|donkeys|hens|geese|ponies|rabbits"
WORDS["cloth_one"] = "coat|jacket|cap|jumper|raincoat|left glove|scarf|apron|sock|sleeve"
WORDS["feel"] = "{glad}|{sad}|{afraid}"

# Kinds of a third character: how it comes in, what it does on the way, how it ends.
THIRDS = {
    "pet": (
        """with them came $3, a {look3} {pet} [with [one white ear|clever eyes|muddy feet]|that
            belonged to $2|that followed $1 everywhere|that ate nothing but {food}]. |
        $2 had [brought|taken along] a {pet} called $3, [who was {very} {trait}|who liked
            {food}|a {look3} old thing]. |
        "may $3 come too?" {asked} $2. $3 was <his2> {pet}, {look3} and {trait}.""",
        """$3 [sniffed at {sniff}|ran in circles|sat down in the mud|tried to eat {sniff}|chased
            a {colour} [leaf|butterfly|fly]|rolled on the ground], and $1 [laughed|had to laugh|
            called <him3> back|scolded <him3> {how}]. |
        "[Stay|Sit down|Come here|Quiet|Be good], $3!" {said} [$1|$2], but $3 [did not listen|
            only [blinked|yawned|sneezed|looked away]|was too {feel}]. |
        even $3 [seemed {feel}|looked {feel}|knew that something was going on], and $2 [stroked|
            patted] <him3> {how}. |
        [$1|$2] gave $3 [a piece of {snack}|a pat|a hug|some water], and $3 was {glad}.""",
        """$3 [fell asleep|was asleep already|got a big piece of {snack}|curled up] {spot}. |
        as for $3, <he3> [had some {snack} for supper|slept until [noon|morning]|looked {glad}]. |
        $3 [seemed to smile|made a small noise|wanted more {snack}], and everyone [laughed|was
            {glad}].""",
    ),
    "little one": (
        """<his1> little [<sister3>|cousin] $3 [wanted to come too|came running after them|was
            allowed to come along|begged and begged], [{cloth_one} and all|with a {look} {toy}|
            still chewing {food}|although <he3> was only [three|four]]. |
        "wait for me!" called little $3. <He3> was [three|four|five] and lived [next door|
            upstairs|across the street], and <he3> had a {look} {toy} [in <his3> hand|under
            <his3> arm]. |
        $2 had to look after $3, [who was only [three|four]|a {trait} child of [three|four]],
            because <his2> {kin} [was at work|had a cold|had gone to {place}].""",
        """"why?" {asked} $3. "[Why not|Because|Just because|That is how it is], $3," {said}
            [$1|$2]. |
        $3 [dropped <his3> {toy}|sat down {spot}|asked for {food}|was {feel}|sang a song without
            words|counted to {number}], so $1 [waited|took <him3> by the hand|picked it all up|
            had to help]. |
        "I am {feel}," {said} $3, and [$1|$2] [gave <him3> {food}|held <his3> hand|laughed|told
            <him3> about a {trait} {creature}]. |
        "[I want|Give me|I lost] my {toy}," said $3. [$1|$2] [found it {spot}|sighed|promised to
            look].""",
        """$3 [was carried home|fell asleep|told <his3> {kin} everything|asked "why?" one more
            time], [and was {glad}|{how}|with [{food}|jam] on <his3> face]. |
        and little $3? <He3> [got the biggest piece|slept with the {toy} in <his3> arms|was
            {glad} too|said it had all been <his3> idea]. |
        "again!" {said} $3, and [everybody laughed|they all laughed|$2 groaned].""",
    ),
    "neighbour": (
        """near {place} they met old $3, [a {worker} with a {colour} [hat|beard|scarf|coat|bag]|
            the {worker}|who had once been a {worker}|who knew everything about {know}]. |
        an old {worker} called $3 [was sitting|sat|was resting] [on a bench|on a low wall|under
            a {tree}], [eating {food}|mending a net|talking to a {creature}]. |
        the {worker}, whose name was $3, [came by|was on the way home|looked over the fence] and
            [said good day|asked how they were|stopped for a chat].""",
        """"[when I was young|in my day|years ago]," {said} $3, "[we had only one {toy}|I met a
            {trait} {creature}|nobody had {food}|I was {feel} too]." [$1|$2] [listened|believed
            every word|wanted to hear more|laughed]. |
        "[take your time|do not worry|think of {know}|try again|keep going], $2," {said} $3
            [{how}|with a smile]. |
        $3 [gave $1 a {look} {toy}|offered them {food}|laughed {how}|nodded|scratched <his3>
            head], and $1 [thanked $3|said thank you|felt {glad}|did not know what to say]. |
        "what do you think, $3?" {asked} [$1|$2]. "{moral3}," said $3.""",
        """old $3 [was {glad} too|went home whistling|had watched it all|only smiled], [and
            {sky}|and thought of <his3> own childhood|{how}]. |
        "I [knew it|told you so|am proud of you]," {said} $3, [and shook hands with $2|and went
            back to the {food}|with a {nice} smile]. |
        "{moral3}," {said} $3, [and that was that|and nobody could deny it|who liked such
            sayings].""",
    ),
}
WORDS["look3"] = """small|fat|shaggy|spotted|white|brown|black|grey|clumsy|lazy|quick|elderly|
fluffy|thin|sturdy|handsome|scruffy"""
WORDS["sniff"] = """the {flower}|the {toy}|a {look} stone|<his2> [boots|sleeve]|some {food}|the
{worker}'s {toy}"""
WORDS["snack"] = "cheese|apple|carrot|bread|sausage|pear|biscuit|banana|pancake|turnip"
WORDS["know"] = """bees|the stars|old clocks|the weather|ships|mushrooms|{food}|{creatures}|
trains|foreign coins|ghosts|{flower}"""
WORDS["moral3"] = """Every [road|day|winter|song] [has an end|begins somewhere]|[Slow|Small|Wet|
Old|Kind] [feet|hands|hearts|friends] [go far|know best|find the way]|A {creature} does not
[worry about|ask for|dream of] {food}|There is a time for {game} and a time for {food}|You never
know until you [try|ask|look]|Nothing is as [old|good|simple] as it looks"""

MEETINGS = {"a new child"}  # plots in which the hero has not met the friend before
PLOTS = {
    "lost and found": (
        """one {when}, [$1|<he1>] could not find <his1> {TOY}. It was a {LOOK} {TOY}, a present
            from <his1> {KIN}. |
        but <his1> [favourite|{look}] {TOY} was gone! $1 had [left|seen|put] it {spot} the day
            before. |
        "my {TOY} is [gone|lost|not there]!" cried $1. "I had it [yesterday|this morning|at
            {place}]." |
        on the way to {PLACE}, $1 put <his1> hand in <his1> pocket. The {look} {TOY} was not
            there, and <he1> felt {sad}.""",
        """$2 [promised to help|came at once|put on <his2> {cloth}]. They looked {spot}, {spot}
            and even {spot}. |
        "let us [look {spot}|ask the {WORKER}|go back to {PLACE}]," {said} $2. But there was
            only [a {look} {toy}|an old {cloth_one}|dust|a {trait} {creature}]. |
        $1 [searched|looked] {spot}, and $2 searched {spot}. All they found was [a {look} {toy}|
            a bit of {snack}|a sleeping {creature}]. |
        they asked the {WORKER}, the {worker2} and even a {creature}. "What does it look like?"
            {asked} the {WORKER}. "It is {LOOK}[| and a little worn| and not very big]," said
            $1.""",
        """{later}, $2 heard {sound} {spot}. |
        "think," said $2. "Where did you [go|sit|play|eat] yesterday?" $1 [thought hard|closed
            <his1> eyes|counted on <his1> fingers]. "[At|Near] {PLACE}!" |
        $1 [sat down and cried|wanted to give up|kicked a stone]. $2 [put an arm round <him1>|
            went on looking|thought of {place}]. |
        {later}, a {bird} [hopped|flew] [over the wall|onto the {tree}|past $2], and something
            [shone|glittered|rattled] there.""",
        """there it was, {spot}! "{oh}, $1, [here it is|I have it|come and see]!" {said} $2. |
        the {TOY} [lay|was] {spot}, [a bit wet|quite safe|covered with leaves|as {look} as
            ever], and $1 [jumped for joy|hugged $2|danced {how}]. |
        a {creature} had [taken|hidden|carried] the {TOY} and put it {spot}. $1 [laughed|was
            {glad}] when $2 [pulled it out|found it|told <him1>]. |
        who had it? The {WORKER} had found the {TOY} {spot} and kept it for $1. $2 [clapped|
            cheered].""",
    ),
    "a quarrel": (
        """$1 and $2 both wanted the {LOOK} {TOY}. "[I saw it first|It is mine|Give it to me]!"
            {said} $1. "No, [it is my turn|I had it before|you always get it]!" {said} $2. |
        while they played {game}, $1 [broke a rule|laughed at $2|pushed $2], and $2 grew {very}
            angry. "That is not fair, $1!" |
        $1 said that <his1> {KIN} was [stronger|taller|wiser|older] than any {WORKER}.
            "Nonsense!" {said} $2, and a quarrel began. |
        "you forgot our {dish}!" {said} $2. "No, you did!" {said} $1. They [shouted|argued]
            until {sky}.""",
        """then $2 [ran home|turned <his2> back|slammed the door|stamped <his2> foot], and $1
            [stayed alone|sat {spot}|threw the {TOY} away]. |
        "I do not want to play with you, $2," {said} $1. $2 [went away {how}|felt {sad}|said
            nothing]. |
        they did not speak for {number} [hours|days]. $1 {job} alone, and $2 {job} alone. |
        $1 went to {place} without $2. [The {food} tasted of nothing|Even {game} was dull|It was
            no fun at all].""",
        """<his1> {KIN} saw that $1 was {sad}. "[What happened|Where is $2], [my dear|child|
            little one]?" |
        {later}, $1 [saw|noticed|picked up] [the {look} {toy}|the {game2} board|a drawing] that
            $2 had once given <him1>. |
        "{moral}," {said} the {WORKER}. $1 [thought about it|had to agree|looked at <his1>
            boots]. |
        at night $1 [lay awake|could not sleep|looked at the ceiling]. "Without $2 [everything
            is grey|I am {sad}|it is too quiet]," <he1> thought.""",
        """so $1 [took|wrapped up|baked|bought] a {dish} and [went|walked|ran] to $2. "I am
            sorry," said $1. "I am sorry too," {said} $2. |
        {later}, there was a knock. $2 stood there with {gift}. "[Shall we be friends again|May
            I come in|Will you forgive me], $1?" |
        they met by chance near {PLACE}. First $2 [grinned|coughed|waved {how}], then $1 did,
            and [the quarrel was over|all was well]. |
        $1 wrote a letter: "Dear $2, [I was wrong|come back|you may have the {TOY}]." $2 [came
            at once|read it {how}|cried a little].""",
    ),
    "a visit": (
        """one {when}, $1 and $2 [set out|set off|went] to visit <his1> {KIN}, who lived near
            {PLACE}. They took [a {dish}|{gift}|{food} and {food}] along. |
        a letter came: "Dear $1, come and see me at {PLACE}. Bring $2. Your {KIN}." $1 [packed
            <his1> {cloth}|read it {number} times|was {glad}]. |
        <his1> {KIN} had moved to {home}, and $1 [wanted|longed] to see it. "[May I come|Take me
            along|I know the way]," {said} $2. |
        it was [far|a long way] to {PLACE}, where <his1> {KIN} [lived|worked as a {WORKER}]. $1
            carried {gift}, and $2 carried a {dish}.""",
        """they [went by train|took the bus|walked|rode on a hay cart|took the ferry]. Outside,
            [they saw {number} {pets}|{sky}|the {flower} were in bloom], and $2 [counted
            {trees}|ate {food}|fell asleep]. |
        the road led past {place} and {place}. "[Are we there yet|Is it far|Are you tired], $1?"
            {asked} $2 {number} times. |
        at a crossing they did not know the way. ["Left," said $2. "Right|"Right," said $2.
            "Left|"Straight on," said $2. "Back]," said $1. A {WORKER} [showed them the way|drew
            them a map|laughed]. |
        on the way $1 lost <his1> {cloth_one}, and $2 had to [go back|run after it|get it down
            from a {tree}].""",
        """<his1> {KIN} [stood|waited] at the gate. "[Welcome|There you are|At last], $1! And
            this must be $2. [Come in|You have grown|Are you hungry]?" |
        in the kitchen there was plenty of {food}, and $1 ate [{number} helpings|until <he1>
            could not move]. $2 wanted to know [how to cook it|why the {toy} was {look}]. |
        the house was full of [{creatures}|clocks|books|{look} things], and $2 [touched nothing|
            asked about each|stared]. "[That|This] {toy} is older than you, $2," {said} <his1>
            {KIN}. |
        in the evening they played {game}. <His1> {KIN} [won|cheated a little|fell asleep], and
            $1 [laughed|was {glad}].""",
        """when it was time to go, $1 was {feel}. "Come back [soon|in spring|with {food}|when it
            snows], you and $2!" {said} <his1> {KIN}. |
        <his1> {KIN} gave $1 a {look} {toy} and $2 {gift}. "[Use it well|Share it|It was mine
            once]." |
        at the door $1 [hugged <his1> {KIN}|promised to write|turned round once more], and $2
            [waved|bowed|said thank you {how}].""",
    ),
    "helping an animal": (
        """[{spot2}|Near {PLACE}] they [heard {sound}|found something small]. It was a [{look4}]
            {CREATURE}. "{oh}!" {said} $2. "It [is hurt|cannot move|is all alone|is shivering]." |
        one {when}, a {look4} {CREATURE} [sat {spot}|came to the door|fell out of a {tree}]. $1
            [stopped|knelt down|held <his1> breath], and $2 [came closer|whispered something]. |
        $2 came running. "Quick, $1! There is a {CREATURE} [in the well|caught in a net|{spot}|
            on the road], and it looks {look4}!" |
        on the way to {PLACE} $1 nearly stepped on a {look4} {CREATURE}. [Its leg|Its eye|One
            foot] was [hurt|bleeding a little|swollen].""",
        """$1 [fetched|brought] [a box|a basket|an old scarf|some straw], and $2 [brought|
            fetched] [water|{food}|milk in a spoon]. The {CREATURE} [trembled|did not move|
            watched them]. |
        "what does a {CREATURE} eat?" {asked} $1. "[{food3}, I think|Anything but {food}|Let us
            ask the {WORKER}]," {said} $2. |
        "do not be {afraid}, little {CREATURE}," {said} $1. [{how2}|With both hands] <he1>
            [picked it up|freed it|wrapped it in <his1> {cloth_one}]. |
        $2 wanted to [run away|shout for help|take it home], but $1 [stayed|sat very still|held
            out some {snack}].""",
        """they took it to the {WORKER}, who [looked at it {how}|put on a bandage|prescribed
            rest and {food}]. |
        for {number} days $1 fed the {CREATURE} [every morning|twice a day|with a spoon], while
            $2 {job}. |
        at night it slept {spot}. $1 got up {number} times to [look|listen|fill its bowl], and
            $2 [drew a picture of it|knitted it a blanket|came every day]. |
        <his1> {KIN} [frowned|smiled|was surprised]. "It may stay until it is [well|strong],"
            {said} <his1> {KIN}. $1 and $2 [cheered|were {glad}].""",
        """{later}, the {CREATURE} was well. $1 [opened the box|put it on the grass|let it go
            near {PLACE}], and $2 [waved|wiped away a tear|wished it luck]. |
        one {when}, it was gone. $1 felt {sad}, but $2 said, "[It has gone home|It is free|It
            will remember us, $1]." |
        now and then the {CREATURE} [came back|sat {spot}|looked in at the window], and $1 [gave
            it {food}|waved|called $2]. |
        "it [looked back|said thank you|knows us]!" {said} $2. $1 [thought so too|nodded {how}].""",
    ),
    "learning a skill": (
        """$1 wanted to learn to {SKILL}. [$2 could do it already|Everybody else could|"It is
            easy," said $2]. |
        "I will never learn to {SKILL}," {said} $1. [<His1> {KIN} could|Even $2 could|All the
            others could], but <he1> could not. |
        one {when}, $1 saw a {WORKER} {SKILL}. "I want to do that too!" <he1> told $2. |
        "can you {SKILL}, $2?" {asked} $1. "[Of course|A little|No|Not yet]," {said} $2. "But I
            can [show you|help you|hold your coat].\"""",
        """the first time $1 [fell over|gave up after a minute|got it all wrong|bumped into a
            {WORKER}]. $2 [did not laugh|laughed until <he2> hiccuped|helped <him1> up]. |
        $1 tried on [Monday|Tuesday], and it went badly. $1 tried on [Thursday|Friday], and it
            went [worse|no better]. |
        "[more slowly|again|look at me|breathe|not like that], $1," {said} $2. $1 was [{sad}|
            tired|cross], but tried again {how}. |
        they practised near {PLACE}, [although {sky}|where nobody saw them|among the {flower}],
            until $2 was [hungry|hoarse|bored].""",
        """<his1> {KIN} [watched|brought {food}|nodded]. "{moral}," {said} <his1> {KIN}, and $1
            [went on|tried once more]. |
        at night $1 dreamed that a {trait} {creature} [taught <him1>|could do it better|gave
            <him1> a prize]. |
        "[stop|enough|let us rest]," {said} $2, but $1 [shook <his1> head|did not hear|had an
            idea]. |
        $2 [drew a picture|wrote down {number} rules|counted aloud|sang the beat], and that
            helped $1.""",
        """and then, {later2}, it worked! "You can {SKILL}!" {said} $2, and $1 [could hardly
            believe it|did it {number} times|shouted with joy]. |
        {later}, $1 showed it to the {WORKER}. [Not everything was right|Only once did <he1>
            slip|It was perfect], and $2 clapped [loudest|{how}]. |
        "[watch|look], $2!" And $1 did it, {how}, [from beginning to end|without a mistake|as if
            <he1> had always done it]. |
        when the {flower} were in bloom, $1 could {SKILL} better than $2. "Now you teach me,"
            {said} $2.""",
    ),
    "a storm": (
        """they were near {PLACE} when [the sky grew dark|the wind rose|it began to thunder]. "A
            storm," {said} $2. "[Run|Hurry|Come under here], $1!" |
        one {when}, black clouds came over {PLACE}. $1 was [{job2}|far from home], and $2 [held
            on to <his2> {cloth_one}|looked up {how}]. |
        first there was one drop, then {number}, then a hundred. $1 and $2 [looked at each
            other|were wet to the skin|pulled up their collars]. |
        "my knee hurts, so it will rain," {said} <his1> {KIN}. $1 [did not believe it|laughed],
            but {later3} $2 pointed at the [sky|black clouds].""",
        """lightning [flashed|split the sky], and {sound} followed. $1 was {afraid}, and $2 [was
            too|counted to {number}|took <his1> hand]. |
        the wind [tore at|bent|shook] the {tree} and carried off [a {toy}|the {WORKER}'s hat|
            $2's {cloth_one}]. "{oh}!" {said} $1. |
        they crept [into a barn|under a cart|into a hollow {tree}|under the bridge], where [a
            {CREATURE} was hiding too|it smelled of hay|it was dry]. "[Are you {afraid}|What
            now], $2?" {asked} $1. |
        hail as big as [peas|marbles|plums] fell on {PLACE}. $2 held [a basket|<his2>
            {cloth_one}|a bucket] over $1.""",
        """to pass the time $2 [told a story about a {trait} {creature}|played {game} with $1|
            named all the {bird}s <he2> knew]. |
        "let us sing," {said} $1, and they sang [louder than the thunder|every song they knew|
            about {food}]. $2 [was no longer {afraid}|forgot the words]. |
        $1 [shared|unpacked] <his1> {food}, and $2 [ate {how}|gave some to a {creature}|felt
            better]. |
        a lamp came nearer. It was the {WORKER}. "[Do not worry|There you are, $1|Come with me,
            $2]," {said} the {WORKER}.""",
        """{later}, the rain stopped, and [a rainbow stood over {PLACE}|{bird}s sang again|
            everything dripped]. "[We did it|It is over|Look up], $1!" {said} $2. |
        at home <his1> {KIN} [hugged $1|rubbed $2 dry|had kept {food} warm|hung up their wet
            things]. |
        the storm had [knocked down a {tree}|blown a {look} {toy} into the yard|filled every
            ditch], but $1 and $2 [were safe|were home]. |
        when $1 [looked out|opened the door], the stars were out. "[That was all|I was not
            afraid]," {said} $2, and $1 [laughed|knew better].""",
    ),
    "a birthday": (
        """it was almost the birthday of $2, and $1 [had no present|had spent all <his1> money|
            did not know what to give]. |
        "tomorrow I shall be [six|seven|eight|nine]!" {said} $2. $1 [had quite forgotten|smiled
            and said nothing|thought of a plan]. |
        nobody [said a word about|seemed to remember] the birthday of $2, and $2 was {sad}. But
            $1 [had a plan|winked at the {WORKER}]. |
        $1 wanted to bake a cake [with {food}|as big as a wheel|in the shape of a {creature}]
            for $2, whose birthday was on {day}.""",
        """$1 [asked <his1> {KIN}|broke open <his1> money box|looked {spot}|went to {PLACE}].
            "What does $2 like?" {asked} <his1> {KIN}. "{food3}," said $1. |
        in secret $1 [painted|carved|sewed|glued together] {gift}. It took {number} [evenings|
            hours], and [<his1> fingers hurt|twice it broke]. |
        $1 [invited|told|asked] the {WORKER}, the {worker2} and {number} [children|cousins]. "Do
            not tell $2!" |
        $1 {job} for the {WORKER} until there was enough [money|flour] for {gift}. "Where are
            you always going?" {asked} $2.""",
        """then came the day, and {sky}. $2 [opened the door|came down the stairs|rubbed <his2>
            eyes], and everybody [cheered|sang|shouted]. |
        $1 [tied a {colour} ribbon round it|hid it {spot}|held it behind <his1> back]. "Close
            your eyes, $2!" |
        the cake [fell on the floor|was burnt|leaned to one side], and $1 was {sad}. "I [like it
            that way|never saw a funnier cake]," {said} $2. |
        on the table there was plenty of {food}, some {food} and a {dish}. $2 [stared|clapped|
            could not speak], and $1 {said2}.""",
        """"it is the best present of all," {said} $2, and [hugged $1|showed it to the {WORKER}|
            took it to bed]. |
        they played {game} and {game} until {sky}. $2 [won {number} times|danced with <his1>
            {KIN}|laughed a lot], and $1 was {glad}. |
        $2 blew out the candles. "What did you wish for?" {asked} $1. "[I may not say|{gift}|
            Another day like this]," {said} $2. |
        when the guests had gone, $1 and $2 [shared the last {food}|washed up {number} plates|
            lay in the grass].""",
    ),
    "a broken thing": (
        """$1 was playing {game} when the {LOOK} {TOY} [fell down|broke|hit the floor]. It
            belonged to <his1> {KIN}. "{oh}," {said} $2. |
        crash! The {TOY} of <his1> {KIN} lay in {number} pieces. $1 [turned pale|could not
            speak|looked at $2]. |
        "[be careful|do not touch it|put it down], $1!" {said} $2. But it was too late: the
            {LOOK} {TOY} was broken. |
        $2 threw the ball, $1 missed it, and it hit the {WORKER}'s {LOOK} {TOY}. There was
            {sound}.""",
        """"we could [hide it {spot}|say it was the cat|run away]," {said} $2. $1 [felt
            {afraid}|shook <his1> head|thought of it]. |
        $1 [hid the pieces {spot}|swept up the pieces] and [went to bed early|told no one but
            $2]. But <he1> felt {sad}. |
        $2 [fetched glue|found some string], and they tried to mend it. The {TOY} looked [like a
            {creature}|worse than before|crooked], and $1 [groaned|had to laugh]. |
        all day $1 could not [eat {food}|look at <his1> {KIN}|sit still]. "Tell the truth,"
            {said} $2 {how}.""",
        """{later}, $1 [took a deep breath|knocked at the door|went in with $2]. "I broke the
            {TOY}," <he1> {said}. "I am {very} sorry." |
        "did the {creature} break my {TOY}?" {asked} <his1> {KIN}. "No," {said} $1. "I did." $2
            [stood beside <him1>|held <his1> hand|turned red]. |
        $1 [put <his1> savings|laid {gift}] on the table. "It is for a new {TOY}," {said} $1,
            and $2 [nodded|gave {number} coins].""",
        """<his1> {KIN} [was silent|smiled|sighed] for a moment. "{moral}. [Thank you for
            telling me, $1|Come, let us mend it]." |
        they mended the {TOY} together: $1 held it, $2 [painted it {colour}|brought the glue],
            and [nobody was cross|it took until {day}]. |
        the {WORKER} [mended it {how}|made it as good as new|put in a new screw], and $1 paid
            with [{food}|a song|an hour of work]. $2 [helped|was {glad}]. |
        "a {TOY} can be [mended|bought]," {said} <his1> {KIN}. "[Trust is harder to mend|You
            were brave, $1|You two are worth more].\"""",
    ),
    "a secret place": (
        """[behind {PLACE}|{spot2}] $1 found a [small door|hole in the hedge|flight of steps|
            narrow path]. "[Come|Follow me|Sh], $2!" |
        "can you keep a secret?" {asked} $1. $2 [nodded|crossed <his2> heart|came closer].
            "There is a [cave|garden|hut|tunnel] near {PLACE}." |
        one {when}, $2 [leaned on a wall|pulled at a {look} [ring|rope]|moved a stone], and [it
            gave way|a door opened]. $1 [held <his1> breath|looked in {how}]. |
        in an old book $1 found a map with a cross near {PLACE}. "[Let us go|A treasure|We need
            a spade]!" {said} $2.""",
        """$1 [went first|lit a lantern|crawled in], and $2 came after <him1>. It smelled of
            [apples|dust|moss|{food}|candles]. |
        it was dark at first. "[Hold my hand|Stay close|Mind your head], $2," {said} $1. Then
            they heard {sound}. |
        inside there was [a table with {food}|a {LOOK} {TOY}|a bed for a {creature}|an old
            boat]. "Who [lives|was] here?" {asked} $2. |
        they counted {number} steps. On the last one sat a {trait} {CREATURE}, and $1 [bowed|
            laughed|nearly fell].""",
        """on the wall somebody had written [a name|a poem|a date|a riddle about a {creature}].
            $2 read it {how}, and $1 felt {feel}. |
        they [swept the floor|brought a {look} {toy}|hung up a lamp|put {flower} in a jar], and
            $2 said, "[Now it is ours|Here we can play {game}|My {kin} would like it, $1]." |
        {later}, somebody [coughed|laughed|came in]: the {WORKER}! "I [played|hid|read] here
            when I was as small as you, $1." |
        $1 made a rule: no [shouting|{food}|grown-ups|{game}] in there. $2 made another: [always
            share|never tell|{number} knocks].""",
        """nobody else ever [heard of it|found the way], and $1 and $2 {job3} there [on rainy
            days|all summer|every {day}]. |
        they told only <his1> {KIN}, who [smiled|had known it for years|gave $1 a {look} key]. |
        {later}, they [closed the door|covered it with branches] again. "[Tomorrow|Next week|
            When it snows]," {said} $2, and $1 [nodded|shook <his2> hand].""",
    ),
    "a race": (
        """on {day} there was a [race|sack race|boat race|sledge race|running race] at {PLACE}.
            $1 [signed up|wanted to win|could not sleep], and so [did $2|could $2 not]. |
        "I am faster than you," {said} $2. "[Prove it|Never|We shall see]!" {said} $1. "From
            {PLACE} to the {tree}!" |
        the {WORKER} promised {gift} to the fastest child. $1 [practised {how}|ran to {PLACE}
            every day|tied <his1> boots twice], and $2 [did the same|ate {food}|only laughed]. |
        $1 was [the smallest|the slowest] of all, but <he1> wanted to race against $2 and
            {number} others.""",
        """"[ready|on your marks|one, two, three]!" {said} the {WORKER}. $1 [shot off|stumbled|
            started last], and $2 was [ahead|right behind|in the lead]. |
        past {place} they ran, past a {trait} {creature} and a {tree}. $2 [looked round|puffed|
            laughed], and $1 [caught up|ran {how}]. |
        halfway $1 [lost a shoe|had a stitch|fell into a puddle]. "[Go on|Get up|Do not stop],
            $1!" {said} the {WORKER}. |
        the mothers and fathers shouted, [a drum was beaten|{sky}|the {bird}s flew up], and $2
            [was almost there|ran like a {creature}].""",
        """then $2 [fell|hurt <his2> knee|slipped on some {snack}] and [could not get up|cried
            out|held <his2> foot]. $1 [heard it|stopped|turned round]. |
        $1 could [see the rope|win now]. But where was $2? [{spot2} <he2> sat|On the ground
            <he2> sat], {sad}. |
        suddenly a {CREATURE} ran across the way, and $2 [stopped|jumped aside] just in time. $1
            [stopped too|held out a hand].""",
        """$1 [went back|helped $2 up|carried $2], and they crossed the line together, [last of
            all|hand in hand|laughing]. |
        another child won {gift}. "[Thank you|You could have won], $1," {said} $2. "{moral}." |
        the {WORKER} gave the prize to [both|$1 and $2], and they [shared it|cut it in two|hung
            it {spot}]. |
        "next time I shall win," {said} $2. "[Maybe|No, I shall|We shall see]," {said} $1, and
            they ate {food} [in the shade|on the grass].""",
    ),
    "afraid of the dark": (
        """at night $1 was {afraid}. There was {sound}, and [the curtain moved|a shadow stood
            {spot}|the stairs creaked]. |
        that night $2 slept at <his1> house. When the lamp was out, $1 [pulled up the blanket|
            held a {TOY} tight|lay very still]. |
        "please leave the door open," {said} $1. <He1> [did not like|was afraid of] the dark,
            and only $2 knew it. |
        the lights went out [at {PLACE}|in the whole street|during supper]. "I cannot see my
            hand," {said} $2, and $1 was {afraid}.""",
        """"what do you see, $1?" {asked} $2. "A [bear|giant|witch|wolf|ghost] {spot}," {said}
            $1. |
        "did you hear that?" {asked} $1. "It was {sound}." $2 [listened|sat up|yawned]. |
        $1 [counted {pets}|thought of {food}|whispered a rhyme], but it did not help. "[Are you
            awake|Can I come over], $2?" |
        <his1> {KIN} came with [warm milk|a candle|a {LOOK} {TOY}] and [sat on the bed|told $1
            about the stars|said that {moral}].""",
        """together they [got up|crept down the stairs|lit a candle|looked {spot}]. $2 went
            [first|last], and $1 carried a {LOOK} {TOY}. |
        "[let us look|I will go with you|give me your hand]," {said} $2. It was only [a
            {cloth_one} on a hook|the {tree} at the window|a {CREATURE}|the old clock]. |
        $2 gave $1 a lantern. Its light fell {spot}, and there sat [a {trait} {CREATURE}|nothing
            but dust|a lost {toy}]. |
        "the dark is full of things," {said} $2: "[{bird}s asleep|stars|{food} for breakfast|
            dreams]." $1 listened {how}.""",
        """$1 [laughed|began to laugh] so loudly that [$2 laughed too|<his1> {KIN} woke up].
            After that the dark was only [a blanket|a big coat|the day asleep]. |
        they opened the window. There were {number} stars over {PLACE}, and $1 [forgot to be
            {afraid}|gave each a name|showed them to $2]. |
        "good night, $2," {said} $1. "Good night, [ghost|bear|dark|stars]," {said} $2, and soon
            [both slept|it was morning]. |
        from then on $1 slept [with the door shut|well|without a lamp], and the {TOY} lay
            {spot}. $2 was {glad} for <him1>.""",
    ),
    "sharing food": (
        """$1 had a {DISH}, and $2 had [nothing|only {food}|forgotten <his2> lunch]. |
        <his1> {KIN} gave $1 a {DISH}. "[Share it|Take it to the {WORKER}|Eat it while it is
            warm]," {said} <his1> {KIN}. |
        near {PLACE} $1 unpacked a {DISH}. It [smelled of {food}|looked {very} good], and $2
            [sniffed|looked away|swallowed]. |
        there was only one {DISH} left at {PLACE}. $1 bought it with <his1> last coins, and $2
            [had come too late|watched {how}].""",
        """$1 wanted [it all|to keep it]. <He1> [turned away|hid it {spot}|ate {how}], and $2
            was {sad}. |
        "are you going to eat all of it?" {asked} $2. "[Yes|Maybe|I am {very} hungry]," {said}
            $1. |
        along came a {trait} {CREATURE}, looking hungry. "[Go away|Shoo]!" said $1. "Poor
            thing," {said} $2. |
        $1 took one bite, then {number} more. [It did not taste right|<His1> stomach hurt|
            Something was missing], for $2 [looked on|sat there {sad}].""",
        """then $1 remembered how $2 had once [shared <his2> {food}|given <him1> a {look} {toy}|
            waited for <him1> at {place}]. |
        "Listen, $2," {said} $1, "[come here|I am sorry|have you a knife|sit down]." |
        a {WORKER} on the next bench broke a bun in two and gave half to [a child|a {bird}|$2].
            $1 [saw it|turned red]. |
        but {later3} $1 [dropped half of it|thought again|sighed], and [the {bird}s came|$2
            helped to pick it up].""",
        """so they [cut|broke|divided] it into [two|three|equal] parts. "[You take the big one|
            One for you, $2|Enjoy it]," {said} $1. |
        they ate it together, down to the last crumb, and $2 [told a joke|licked <his2> fingers|
            said it was better than {food}]. |
        $2 ran home and came back with {food}. Now there was a feast, and $1 [invited the
            {WORKER}|ate {how}|was {glad}]. |
        half for $1, half for $2, and the crumbs for the {CREATURE}: [it was enough|nobody was
            hungry|so it should be].""",
    ),
    "a garden": (
        """one {when}, the {WORKER} gave $1 {number} seeds. "What will they be?" {asked} $2.
            "[Wait and see|{flower2}|Nobody knows]." |
        behind the house there was a bit of [bare|stony|sandy] ground. "Let us grow {flower} and
            [beans|radishes|pumpkins]," {said} $1 to $2. |
        $1 found a {look} seed {spot}. $2 said it was [a stone|a bean|worth nothing], but $1
            [put it in a pot|kept it]. |
        <his1> {KIN} had no time for the garden, and [{flower} grew everywhere|it was all
            weeds]. "We can do it," {said} $1, and $2 fetched [a rake|a spade|<his2> boots].""",
        """$1 dug, and $2 [watered|pulled up weeds|carried {number} buckets]. A {CREATURE}
            [watched|ate a worm|sat on the spade]. |
        every day $1 went to look. Nothing. "[It needs time|Sing to it|It is dead]," {said} $2. |
        $2 put up a scarecrow with <his1> {KIN}'s {cloth_one}. The {bird}s [laughed|sat on it|
            were not {afraid}], and $1 [sighed|laughed too]. |
        it [rained for {number} days|did not rain for weeks]. $1 was {afraid} for the seeds, and
            $2 [covered them|dug a ditch|prayed for sun].""",
        """{later}, something green [looked out of|came through] the earth. "{oh}!" {said} $1.
            "[Come quickly|It lives], $2!" |
        one {when}, [snails|a {CREATURE}|a goat] had eaten half of it. $1 was {sad}, but $2
            [built a fence|planted new ones|saved the other half]. |
        it grew as high as [the knee|the fence|$2|the window], and $1 measured it [every {day}|
            with a {colour} string]. |
        the {WORKER} leaned over the fence. "{moral}," {said} the {WORKER}. $1 [went on weeding|
            wiped <his1> hands].""",
        """in [July|August|September] they picked [{number} pumpkins|a basket of beans|{flower}
            for the whole street]. $1 gave the best one to $2. |
        such {flower} nobody had seen at {PLACE}. "[We did that|Not bad|And you wanted to give
            up], $2," {said} $1. |
        <his1> {KIN} cooked {food} from the garden, and $2 had {number} helpings. $1 kept [one
            seed|a handful of seeds] for the spring. |
        "next year," {said} $2, "we shall grow [a forest|{food}|a pumpkin as big as a {pet}]."
            $1 [believed it|took out a notebook].""",
    ),
    "a letter": (
        """one {when}, the postman brought a letter with a {colour} stamp. It was not for $1 but
            for [a certain {WORKER}|somebody at {PLACE}|a stranger]. "[What now|Open it]?"
            {asked} $2. |
        near {PLACE} $2 fished a bottle out of the water. In it there was a letter, and $1 read:
            "[I am alone|Who are you|Send {food}]." |
        $1 wanted to write to [the king|the moon|<his1> {KIN}|a sailor], but could not spell. "I
            can," {said} $2. |
        a {bird} with a note on its leg landed {spot}. "{oh}!" {said} $1. "It [is tired|comes
            from the sea|is for us, $2].\"""",
        """"we must [bring it there|answer|ask the {WORKER}]," {said} $1. $2 [put on <his2>
            {cloth}|fetched ink|looked at the map]. |
        it took them {number} hours, and $2 made {number} [blots|mistakes]. "[Write that {sky}|
            Ask about {food}]," {said} $1. |
        at {place} nobody knew [the name|the hand]. At {place} somebody said, "Ask the
            {WORKER}," and $1 and $2 [went there {how}|walked on]. |
        $1 put in [a pressed flower|a drawing of a {creature}|a {look} button], and $2 licked
            the stamp.""",
        """then they waited. $1 {job}, $2 {job}, and every day they [ran to the gate|asked the
            postman]. |
        the door was opened by a {trait} old {WORKER}. "For me?" {asked} the {WORKER}. "[I have
            waited for it for years|Come in, $1|Read it to me, $2]." |
        on {day} it snowed, and no post came. "[They have forgotten us|It is lost]," {said} $2.
            $1 was {sad} but [hoped|kept watch]. |
        $2 had a dream in which a {trait} {creature} ate the letter. "[That means luck|
            Nonsense]," {said} $1.""",
        """{later}, an answer came: "Dear $1, dear $2, [I was {glad}|come and visit me|I send
            you {gift}]." |
        the {WORKER} [wept for joy|laughed aloud|gave them {food}], for the letter was from [a
            lost brother|an old friend|the sea]. $1 and $2 [were {glad}|looked at each other]. |
        since then $1 gets a letter every {day}, and $2 collects the [{colour}|foreign] stamps. |
        there came no letter but {gift}. "[It is from the moon|Somebody likes us|It was worth
            it]," {said} $2, and $1 [smiled|kept it {spot}].""",
    ),
    "a new child": (
        """$2 was new at school and [spoke to nobody|sat alone|knew no one]. $1 [saw it|wondered
            why|remembered <his1> own first day]. |
        at first $1 had not liked $2. $2 [wore a {colour} {cloth_one}|came from far away|talked
            in a strange way|never laughed]. |
        when $2 first came to {PLACE}, the others [laughed at <his2> {cloth_one}|played {game}
            without <him2>]. $1 did [too|not]. |
        one {when}, $1 found $2 [crying|hiding|sitting] {spot}. "[What is it|Are you hurt|Can I
            help], $2?" {asked} $1.""",
        """"do you like {game}?" {asked} $1. $2 [shook <his2> head|nodded|did not understand].
            "[I can teach you|We need one more|Nor do I]." |
        $1 gave $2 half of <his1> {food}, and $2 gave $1 [some {food}|a {LOOK} {TOY}]. |
        "where I come from," {said} $2, "[they eat {food} for breakfast|there are {creatures} in
            the streets|it never snows]." $1 [listened|laughed|did not believe it]. |
        $2 could [walk on <his2> hands|draw a {creature} with one line|count in {number}
            languages], and $1 [stared|wanted to learn it].""",
        """the others [whispered|called them names|would not play with $1]. "[Let them|I do not
            care|Wait]," {said} $1, and $2 felt {glad}. |
        then the {WORKER} [needed help|had lost the key|lost a {toy}]. Only $2 knew [what to do|
            where it was], and $1 [told everyone|was proud]. |
        {later}, a {CREATURE} got into the school. All ran, but $2 [sat down and talked to it|
            caught it {how}|gave it some {snack}]. "{oh}," {said} $1. |
        $1 asked $2 home. <His1> {KIN} had made {food}, and $2 [ate {number} plates|thought of
            home|thanked $1 {how}].""",
        """now they [all played {game}|walked to {PLACE} together], and $2 [laughed|was {glad}|
            taught them a song]. |
        "I am glad you came, $2," {said} $1. "[So am I|I was not, at first|So am I, $1]." |
        $2 wrote to <his2> {kin}: "[I have a friend|I am {glad} here]. [It is $1|The name is
            $1]. [I even like the {food}|Send {food}]." |
        and on {day} everybody wanted to sit next to $2, but $1 [came first|had kept the seat|
            did not mind].""",
    ),
    "a day of snow": (
        """in the night it had snowed, and [{PLACE} was white|the door would not open|even the
            {tree} had a cap]. "[Get up|Come out|Hurry], $2!" {said} $1. |
        "no school today!" {said} $2. The snow was as high as [the fence|a {pet}|the window],
            and $1 [cheered|danced in <his1> {cloth}]. |
        $1 [stuck out <his1> tongue|held out a hand]: the first snow! $2 [caught a flake|
            shivered|ran for the sledge]. |
        the road to {PLACE} was snowed in, and they had only [some {food}|a {dish}] left. $1 and
            $2 [took the sledge|put on <his1> {KIN}'s boots].""",
        """they built a snow [bear|castle|queen|ship|giant] with [a {LOOK} {TOY} for a nose|a
            carrot for a nose|buttons for eyes]. "It looks like [the {WORKER}|your {kin}|you],
            $2," {said} $1. |
        down the hill they went, $1 in front and $2 behind, until [they hit a {tree}|the sledge
            turned over|a {WORKER} jumped aside]. |
        $2 threw a snowball at $1, and it hit [the {WORKER}|a window|<his1> {KIN}]. "[Run|Who
            was that|Oh dear]!" {said} $2. |
        they followed the tracks of a {CREATURE} past {place} and {place}. "It [limps|is hungry|
            went home]," {said} $1.""",
        """then $2 [broke through the ice|lost <his2> {cloth_one}|could not feel <his2> toes].
            $1 [lay down flat and pulled|lent <him2> a scarf|shouted for help]. |
        it began to snow again, and $1 could not see [the house|{place}|$2]. "[Hold on to me|
            This way|Follow the fence]," {said} $2. |
        {spot2} sat a hungry {CREATURE}. $1 [gave it some {snack}|made it a nest of hay], and $2
            [watched|kept quiet]. |
        the old {WORKER} could not get out. $1 shovelled, $2 [swept|carried wood|made tea], and
            {later3} the path was free.""",
        """at home there was [hot cocoa|plenty of {food}|a fire], and [their wet things hung by
            the stove|$2 put <his2> feet in warm water]. $1 was {glad}. |
        the sun came, and their snow giant grew [thin|small|sad]. "[Until next year|Good-bye],"
            {said} $2, and $1 kept [its hat|a bit in a jar]. |
        "what was the best thing?" {asked} <his1> {KIN}. "[The sledge|The {CREATURE}|All of
            it]," {said} $1. "[The {food}|Coming home]," {said} $2.""",
    ),
}
WORDS |= {
    "worker2": """mayor|policeman|chimney sweep|milkman|watchman|organist|vet|dentist|goose
        girl|stationmaster|rag collector|lighthouse keeper""",
    "trees": "trees|bridges|barns|cows|chimneys|towers|clouds|tunnels",
    "game2": "chess|draughts|ludo",
    "look4": """little|lost|wet|thin|frightened|hungry|tired|shivering|limping|young|weak|muddy|
        sad|half-frozen""",
    "spot2": """{spot}|in a corner|by the side of the road|at the bottom of a ditch|under a
        {tree}|behind a hedge|among the {flower}""",
    "how2": "slowly|gently|carefully|patiently|cautiously|softly|bravely",
    "food3": """bread|cheese|apples|plums|nuts|carrots|biscuits|cherries|raisins|rice|pears|
        grapes|corn|worms|{flower}|cold milk|oats|seeds|peas""",
    "later2": """on {number2} [day|week|try|attempt]|one {when}|just before [supper|the rain]|
        when nobody was looking""",
    "later3": "after [a while|an hour|lunch|a minute]|soon|before long|in the end|at last|by noon",
    "job2": """picking [beans|apples|mushrooms]|fishing|looking for [shells|nuts|a {toy}]|
        asleep|up a {tree}|flying a kite|in the hay|on a raft""",
    "job3": "met|played {game}|read|ate {food}|told stories|kept their treasures|drew maps",
    "said2": "smiled|felt {glad}|bowed|beamed|poured the tea|lit the candles",
    "day": "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday",
    "flower2": "Tulips|Beans|Sunflowers|Pumpkins|Poppies|Radishes|Surprises",
}
WORDS["number2"] = "the third|the fifth|the last|the sixth|the tenth|the twelfth"

# They name both, so that every story can be brought to its number of mentions.
ENDINGS = """
[that night|that evening], $1 [lay in bed|sat by the fire|looked at the moon] and felt {glad}.
    [{moral}|Tomorrow there would be {food}|<He1> dreamed of {food}]. |
and so $1 learned that {moral}. |
"{moral}," {said} $1. "[That is true|So they say|I think so too|You sound like my {kin}],"
    {said} $2. |
from that day on, $1 and $2 [were {friends}|never [quarrelled|lied|parted] again|{job}
    together]. |
$1 and $2 [walked|ran|skipped] home [arm in arm|hand in hand|singing|side by side], and {sky}. |
"[what a day|that was {very} exciting|I shall never forget it]!" {said} $2. $1 [nodded|yawned|
    agreed], [tired but {glad}|for {moral}]. |
when $1 was old and a {worker}, <he1> still [told this story|thought of that day|wrote to $2
    every {day}]. |
they all ate {food}, and [$1|$2] had [the biggest piece|{number} helpings]. The end. |
"shall we [do it again|meet tomorrow|play {game}]?" {asked} $1. "[Yes|Of course|If it does not
    rain|Always]," {said} $2. |
<his1> {kin} [kissed $1 good night|tucked $1 in|turned down the lamp]. "{moral}," [thought $1|$1
    murmured|<he1> heard <him1>self say]. |
if you go to {place} [today|on a {when}], you [may|can] see $1 and $2 [playing {game}|eating
    {food}|under the {tree}], {glad} [as ever|and a little older]. |
$2 [gave $1 {gift}|drew a picture of it all|told everyone about $1], and it was kept {spot}. |
[and the {TOY}?|What became of the {look} {toy}?] $1 [gave|lent] it to $2, for {moral}.
"""
